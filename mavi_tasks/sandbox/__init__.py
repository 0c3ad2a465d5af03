"""The embedded gateway: a strict, independent implementation of the API contract, for trials and tests.

It imports nothing from the rest of the package, so that it checks the contract independently. Its answers
are simulated, or come from a small local classifier (`vision`), and are marked as such; its tokens, prices,
limits and faults follow the published rules.
Control: GET /_sandbox/bill[?bodies], GET and POST /_sandbox/faults, POST /_sandbox/reset.
"""

from .answers import Answerer, Question, Simulated
from .config import FaultRule, Limit, SandboxConfig
from .faults import UnknownFault
from .media import MediaInput
from .replies import FAULTS
from .server import Sandbox, serve
from .unknowns import Unknowns, UnknownSetting

FAULT_KINDS = tuple(sorted(FAULTS))

__all__ = [
    "FAULT_KINDS",
    "Answerer",
    "FaultRule",
    "Limit",
    "MediaInput",
    "Question",
    "Sandbox",
    "SandboxConfig",
    "Simulated",
    "UnknownFault",
    "UnknownSetting",
    "Unknowns",
    "serve",
]
