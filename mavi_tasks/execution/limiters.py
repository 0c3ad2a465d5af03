"""The limiters of one process: one for each model, made when it is first needed."""

import logging
from typing import Any, Final

from mavi_tasks.limits import LimitChange, ModelLimiter
from mavi_tasks.limits.shared import LeasedRateGate, RateLeaseStore, limit_name
from mavi_tasks.planning.context import RunContext
from mavi_tasks.planning.target import ModelTarget

log = logging.getLogger("mavi")

CHANGES_KEPT: Final = 1000


class RunLimiters:
    """The limiters by model, and what changed of them.

    leases, workers: where the workers of a run share configured rates, and how many share a concurrency.
    """

    def __init__(
        self, context: RunContext, *, leases: RateLeaseStore | None = None, workers: int = 1
    ) -> None:
        self.by_model: dict[str, ModelLimiter] = {}
        self.changes: list[LimitChange] = []
        self._context, self._leases, self._workers = context, leases, workers

    def of(self, target: ModelTarget) -> ModelLimiter:
        if target.model not in self.by_model:
            self.by_model[target.model] = self._make(target.model)
        return self.by_model[target.model]

    def _make(self, model: str) -> ModelLimiter:
        limits = self._context.job.limits_for(model)
        each = None if limits.concurrency is None else max(1, limits.concurrency // self._workers)
        rates: dict[str, Any] = {
            "requests_per_minute": limits.requests_per_minute,
            "tokens_per_minute": limits.tokens_per_minute,
            "clock": self._context.clock,
        }
        gate = None
        if self._leases is not None and (limits.requests_per_minute or limits.tokens_per_minute):
            endpoint = self._context.endpoint
            name = limit_name(endpoint.identity, endpoint.api_key, model)
            gate = LeasedRateGate(self._leases, name, workers=self._workers, **rates)
        return ModelLimiter(model, concurrency=each, on_change=self._changed, gate=gate, **rates)

    def _changed(self, change: LimitChange) -> None:
        self.changes.append(change)
        del self.changes[:-CHANGES_KEPT]
        log.info("%s: %s %s -> %s (%s)", change.model, change.what, change.old, change.new, change.why)

    async def close(self) -> None:
        """Give back what is leased. Raises StoreError."""
        for limiter in self.by_model.values():
            await limiter.close()
