"""How fast each model may be asked: told limits are kept, untold ones learned, dead models left alone.

    Throttle    what dispatch talks to: acquire before a try, release after it
     ├── Pacer      requests and tokens per minute, evenly (GCRA)
     ├── Adaptive   concurrency and rate nobody told us
     └── Circuit    stops asking a model that only fails

Nothing here knows the network, money or files; time is a `Clock`.
"""

from mavi_tasks.common.clock import Clock, MonotonicClock
from mavi_tasks.limits.adaptive import AdaptiveSettings
from mavi_tasks.limits.circuit_breaker import CircuitSettings
from mavi_tasks.limits.events import LimitChange, ModelDown, Outcome, Permit
from mavi_tasks.limits.limiter import ModelLimiter

__all__ = [
    "AdaptiveSettings",
    "CircuitSettings",
    "Clock",
    "LimitChange",
    "ModelDown",
    "ModelLimiter",
    "MonotonicClock",
    "Outcome",
    "Permit",
]
