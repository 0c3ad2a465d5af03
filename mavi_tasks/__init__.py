"""Label media with many vision models, within limits and a budget, and keep what each answer cost.

    import mavi_tasks as mavi

    run = mavi.label("photos/*.jpg", "What animal is this?", models="gemini:gemini-2.5-flash", budget_usd=5)
    run.df[["media_uri", "answer", "cost_usd"]]

The names in `__all__` are the public API, loaded when they are first used. Everything else is internal and
may change. The stages, in the order the data takes them:

    job, manifest, media, prompts -> planning -> execution (limits, providers, gateway)
        -> storage -> compare -> reports
                   \\-> costs -> reports
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mavi_tasks.common.version import __version__
from mavi_tasks.errors import InputError, MaviError, StoppedError, StorageError

if TYPE_CHECKING:
    from mavi_tasks.api.analysis import ComparedModels, Spend, compare, costs, dataframe, price
    from mavi_tasks.api.label import label
    from mavi_tasks.api.progress import Progress
    from mavi_tasks.api.results import RunResult
    from mavi_tasks.api.run import arun, plan, run
    from mavi_tasks.api.status import DatasetStatus, status
    from mavi_tasks.job import Columns, Job, Limits, ModelSpec, Retry, load_job
    from mavi_tasks.planning.forecast import Forecast
    from mavi_tasks.sandbox import Sandbox

__all__ = [
    "Columns",
    "ComparedModels",
    "DatasetStatus",
    "Forecast",
    "InputError",
    "Job",
    "Limits",
    "MaviError",
    "ModelSpec",
    "Progress",
    "Retry",
    "RunResult",
    "Sandbox",
    "Spend",
    "StoppedError",
    "StorageError",
    "__version__",
    "arun",
    "compare",
    "costs",
    "dataframe",
    "label",
    "load_job",
    "plan",
    "price",
    "run",
    "status",
]

_MODULES = {
    "mavi_tasks.api.analysis": ("ComparedModels", "Spend", "compare", "costs", "dataframe", "price"),
    "mavi_tasks.api.label": ("label",),
    "mavi_tasks.api.progress": ("Progress",),
    "mavi_tasks.api.results": ("RunResult",),
    "mavi_tasks.api.run": ("arun", "plan", "run"),
    "mavi_tasks.api.status": ("DatasetStatus", "status"),
    "mavi_tasks.job": ("Columns", "Job", "Limits", "ModelSpec", "Retry", "load_job"),
    "mavi_tasks.planning.forecast": ("Forecast",),
    "mavi_tasks.sandbox": ("Sandbox",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def _load(name: str) -> Any:
    return getattr(import_module(_MODULE_OF[name]), name)


def _function(name: str) -> property:
    """A function that has the name of a package here; importing that package must not replace it."""
    return property(lambda _: _load(name), lambda _, package: None)


class _Package(ModuleType):
    compare = _function("compare")
    costs = _function("costs")


if not TYPE_CHECKING:
    sys.modules[__name__].__class__ = _Package

    def __getattr__(name: str) -> Any:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return _load(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
