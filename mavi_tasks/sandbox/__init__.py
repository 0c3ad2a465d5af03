"""The embedded gateway: a strict, independent implementation of the service's contract, for trials and tests.

It imports nothing from the rest of the package, so that it is a second witness of what the contract says.
Its answers are made up and say so, or come from a small local classifier (`vision`) and say that; its tokens,
prices, limits and faults follow the published rules.
Control: GET /_sandbox/bill[?bodies], GET and POST /_sandbox/faults, POST /_sandbox/reset.
"""

from .answers import Answerer, Question, Simulated
from .config import FaultRule, Limit, SandboxConfig
from .faults import UnknownFault
from .media import SeenMedia
from .replies import FAULTS
from .server import Sandbox, serve

FAULT_KINDS = tuple(sorted(FAULTS))

__all__ = [
    "FAULT_KINDS",
    "Answerer",
    "FaultRule",
    "Limit",
    "Question",
    "Sandbox",
    "SandboxConfig",
    "SeenMedia",
    "Simulated",
    "UnknownFault",
    "serve",
]
