"""The page's picture of confidence: how often each model is right when it says it is so sure."""

from collections.abc import Mapping

from markupsafe import Markup

from mavi_tasks.common.format import percent
from mavi_tasks.compare.calibration import Calibration
from mavi_tasks.reports.html import svg_charts

INTRO = (
    "On the dashed line a model is right as often as it says; below it, it is surer than it should be. "
    "Each point is a tenth of its answers, or at least ten."
)


def reliability(
    held: Mapping[str, Calibration], name: Mapping[str, str], colour: Mapping[str, int]
) -> Markup:
    """Return the reliability diagram of all models that give a confidence."""
    points = [
        svg_charts.Point(
            name[model] if at == 0 else "",
            bin_.confidence,
            bin_.accuracy.value,
            bin_.accuracy.low,
            bin_.accuracy.high,
            colour[model],
            kind="small",
            tip=f"{name[model]}: {percent(bin_.confidence)} sure, {percent(bin_.accuracy.value)} right",
        )
        for model, one in held.items()
        for at, bin_ in enumerate(one.bins)
    ]
    sure = [point.x for point in points]
    line = [(min(sure), min(sure)), (max(sure), max(sure))]

    def text(value: float) -> str:
        return percent(value, 0)

    x, y = svg_charts.Axis("Confidence", text), svg_charts.Axis("Right answers", text)
    return svg_charts.scatter("Confidence against right answers", points, x, y, line, stairs=False)
