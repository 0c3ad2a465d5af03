"""A cascade as job files: one per step, and the command that finds the items of the next."""

import json
import shlex

from mavi_tasks.compare.result import Policy

OUTPUT = "out/cascade"


def recipe(policy: Policy) -> str:
    """Return the job files of a policy, one YAML document a step; prompts and limits stay the user's."""
    return "---\n".join(_step(policy, number) for number in range(len(policy.steps)))


def _step(policy: Policy, number: int) -> str:
    models = "".join(f"  - {json.dumps(name, ensure_ascii=False)}\n" for name in policy.steps[number])
    if number == 0:
        head = "# step 1: every item\nmanifest: items.csv\n"
    else:
        share = 100 * policy.escalated[number - 1]
        head = f"# step {number + 1}: about {share:.0f}% of the items; find them with\n"
        head += f"# {command(policy, number)}\n"
        head += f"manifest: step-{number + 1}.jsonl\n"
    return f"{head}models:\n{models}output: {OUTPUT}\n"


def command(policy: Policy, number: int) -> str:
    """Return the command that writes the items step `at` (from 1) must ask."""
    asked = [name for step in policy.steps[:number] for name in step]
    models = asked[-1:] if policy.kind == "fallback" else asked
    parts = ["mavi", "compare", OUTPUT, "--escalate", f"step-{number + 1}.jsonl"]
    for name in models:
        parts += ["--model", name]
    for limit in policy.thresholds[:number]:
        parts += ["--below", f"{limit:g}"]
    return shlex.join(parts)
