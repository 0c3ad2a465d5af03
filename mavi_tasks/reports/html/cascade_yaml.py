"""A cascade as job files: one per step, and the command that finds the items of the next."""

import json
import shlex

from mavi_tasks.compare.result import Policy

OUTPUT = "out/cascade"


def recipe(policy: Policy) -> str:
    """Return the job files of a policy, one YAML document a step; prompts and limits stay the user's."""
    return "---\n".join(_step(policy, at) for at in range(len(policy.steps)))


def _step(policy: Policy, at: int) -> str:
    models = "".join(f"  - {json.dumps(name, ensure_ascii=False)}\n" for name in policy.steps[at])
    if at == 0:
        head = "# step 1: every item\nmanifest: items.csv\n"
    else:
        share = 100 * policy.escalated[at - 1]
        head = f"# step {at + 1}: about {share:.0f}% of the items; find them with\n# {command(policy, at)}\n"
        head += f"manifest: step-{at + 1}.jsonl\n"
    return f"{head}models:\n{models}output: {OUTPUT}\n"


def command(policy: Policy, at: int) -> str:
    """Return the command that writes the items step `at` (from 1) must ask."""
    models_so_far = [name for step in policy.steps[:at] for name in step]
    models = models_so_far[-1:] if policy.kind == "fallback" else models_so_far
    parts = ["mavi", "compare", OUTPUT, "--escalate", f"step-{at + 1}.jsonl"]
    for name in models:
        parts += ["--model", name]
    for limit in policy.thresholds[:at]:
        parts += ["--below", f"{limit:g}"]
    return shlex.join(parts)
