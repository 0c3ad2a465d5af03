"""A cascade as job files: one per step, and the command between them."""

import json

from mavi_tasks.compare.result import Policy

WHEN = {
    "agree": "the two models differ",
    "agree3": "the models so far do not agree",
    "confidence": "the model's own confidence is below {limit:.2f}",
    "fallback": "the model gave no answer",
}


def recipe(policy: Policy) -> str:
    """Return the job files of a policy, one YAML document a step; prompts and limits stay the user's."""
    return "---\n".join(_step(policy, at) for at in range(len(policy.steps)))


def _step(policy: Policy, at: int) -> str:
    models = "".join(f"  - {_quoted(name)}\n" for name in policy.steps[at])
    if at == 0:
        head = "# step 1: every item\nmanifest: items.csv\n"
    else:
        limit = policy.thresholds[at - 1] if at <= len(policy.thresholds) else 0.0
        when = WHEN[policy.kind].format(limit=limit)
        share = f"{100 * policy.escalated[at - 1]:.0f}%"
        head = (
            f"# step {at + 1}: only items where {when} (about {share} of all)\nmanifest: step-{at + 1}.csv\n"
        )
    return f"{head}models:\n{models}output: out/cascade\n"


def _quoted(name: str) -> str:
    """A YAML double-quoted string is a JSON string."""
    return json.dumps(name, ensure_ascii=False)
