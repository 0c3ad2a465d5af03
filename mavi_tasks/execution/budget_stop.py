"""What is said when a budget stops a run: what the next call may cost, what is left, and what to do."""

from mavi_tasks.common.format import usd as usd_text
from mavi_tasks.common.money import usd
from mavi_tasks.limits.budget import Budget
from mavi_tasks.planning.request import Request
from mavi_tasks.planning.target import ModelTarget


def does_not_fit(target: ModelTarget, request: Request, input_tokens: int, budget: Budget) -> str:
    """Why this request is not sent; `input_tokens`: what is held back for."""
    most_pico = target.max_cost_pico(input_tokens) or 0
    held_pico, left_pico = budget.scaled_pico(most_pico), budget.left_pico or 0
    raised = "" if held_pico == most_pico else ", raised because calls cost more than their worst case before"
    remedies = ["raise budget_usd", "set a lower max_tokens"]
    if any(media.width is None for media in request.media_items):
        remedies.append("set media.max_url_image_px and media.max_video_s to the largest media there are")
    call = f"the next call to {target.model} may cost {usd_text(usd(held_pico))}"
    why = f"({_output(target)}, up to {input_tokens:,} input tokens{raised})"
    return f"{call} {why}; {usd_text(usd(left_pico))} is left: {', or '.join(remedies)}"


def _output(target: ModelTarget) -> str:
    given = target.params.get("max_tokens") or target.family.defaults["max_tokens"]
    more = f", {target.max_tokens:,} with all choices and thinking" if target.max_tokens != given else ""
    return f"max_tokens {given}{more}"
