"""One account's limits and one budget, shared by many processes.

    RateLeaseStore  a store that hands out leases of a limit: memory, a file, Redis, Prefect
    LeaseClock      what one process holds of one limit: time that passes only while it holds leases
    LeasedRateGate  the gate of a `ModelLimiter` that sends on leased time only
    Ledger          a store of dollars, handed out in portions that shrink near the end
    LeasedBudget    a Budget on what it has of the ledger

A lease is a fraction of a whole limit (a quarter for four workers) for a second, longer for slow limits.
Leases of one limit start at least `spacing_s` apart, so that the fractions held at any moment never sum to
more than the limit, whoever holds them; requests and tokens per minute are divided by the same leases. A dead
worker's lease expires by itself. No lease, no request: a store that is unavailable stops the run, it never
lifts the limit.
"""

from mavi_tasks.limits.shared.lease_clock import LEASE_S, LeaseClock
from mavi_tasks.limits.shared.leased_budget import LeasedBudget
from mavi_tasks.limits.shared.leased_rate_gate import LeasedRateGate
from mavi_tasks.limits.shared.rate_leases import (
    MemoryRateLeases,
    RateLeaseStore,
    StoreError,
    limit_name,
)

__all__ = [
    "LEASE_S",
    "LeaseClock",
    "LeasedBudget",
    "LeasedRateGate",
    "MemoryRateLeases",
    "RateLeaseStore",
    "StoreError",
    "limit_name",
]
