"""One account's limits and one budget, shared by many processes.

    Permits         a store that hands out leases of a limit: memory, a file, Redis, Prefect
    Leased          what one process holds of one limit: time that passes only while it holds leases
    SharedThrottle  a Throttle that sends on leased time only
    Ledger          a store of dollars, handed out in portions that shrink near the end
    LeasedBudget    a Budget on what it has of the ledger

A lease is a share of a whole limit (a quarter for four workers) for a second, longer for slow limits. Leases
of one limit start at least `spacing_s` apart, so that the shares held at any moment never sum to more than
the limit, whoever holds them; requests and tokens per minute are divided by the same leases. A dead worker's
lease runs out by itself. No lease, no send: a store that is out stops the run, it never lifts the limit.
"""

from mavi_tasks.limits.shared.lease_clock import LEASE_S, LeaseClock
from mavi_tasks.limits.shared.leased_budget import LeasedBudget
from mavi_tasks.limits.shared.rate_leases import MemoryPermits, RateLeaseStore, StoreError, limit_name
from mavi_tasks.limits.shared.shared_limiter import SharedModelLimiter

__all__ = [
    "LEASE_S",
    "LeaseClock",
    "LeasedBudget",
    "MemoryPermits",
    "RateLeaseStore",
    "SharedModelLimiter",
    "StoreError",
    "limit_name",
]
