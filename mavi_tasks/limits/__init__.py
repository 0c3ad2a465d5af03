"""How fast requests go to each model: configured limits are kept, others discovered, dead models left alone.

    ModelLimiter     what execution calls: acquire before a request, release after it
     ├── TokenBucket   requests and tokens per minute, evenly (GCRA)
     ├── Adaptive      concurrency and rate that are not configured
     ├── Circuit       stops sending to a model that only fails
     └── RateGate      a limit that several processes share (limits/shared)

Nothing here knows the network, money or files; time is a `Clock`.
"""

from mavi_tasks.common.clock import Clock, MonotonicClock
from mavi_tasks.limits.circuit_breaker import CircuitSettings
from mavi_tasks.limits.events import LimitChange, ModelDown, Permit, SendOutcome
from mavi_tasks.limits.limit_search import AdaptiveSettings
from mavi_tasks.limits.limiter import ModelLimiter, RateGate

__all__ = [
    "AdaptiveSettings",
    "CircuitSettings",
    "Clock",
    "LimitChange",
    "ModelDown",
    "ModelLimiter",
    "MonotonicClock",
    "Permit",
    "RateGate",
    "SendOutcome",
]
