"""What comes from the environment: which gateway answers, and with which key."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mavi_tasks.errors import InputError
from mavi_tasks.job_sections import Gateway

MAVI_BASE_URL = "https://mavi-backend.memories.ai/serve/api/v2"
SANDBOX_KEY = "sk-sandbox"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go. `identity` is what the dataset's gateway column says: mavi, sandbox or a base URL.

    base_url None: the sandbox inside this process.
    """

    identity: str
    base_url: str | None
    api_key: str | None = field(repr=False)

    @property
    def is_sandbox(self) -> bool:
        return self.identity == "sandbox"


def endpoint(gateway: Gateway, env: Mapping[str, str]) -> Endpoint:
    """Resolve a job's gateway. Raises InputError when the key it needs is not set."""
    if gateway.name == "sandbox":
        return Endpoint("sandbox", gateway.base_url, SANDBOX_KEY)
    base_url = gateway.base_url or env.get("MAVI_BASE_URL") or MAVI_BASE_URL
    base_url = base_url.rstrip("/")
    identity = "mavi" if base_url == MAVI_BASE_URL else base_url
    return Endpoint(identity, base_url, _key(gateway, env))


def _key(gateway: Gateway, env: Mapping[str, str]) -> str | None:
    if gateway.api_key_env is not None:
        return _usable(gateway.api_key_env, env)
    if gateway.dialect != "mavi":
        return None  # never show the MAVI key to somebody else's server
    name = "MAVI_API_KEY" if env.get("MAVI_API_KEY") else "MEMORIES_API_KEY"
    return _usable(name, env, shown="MAVI_API_KEY")


def _usable(name: str, env: Mapping[str, str], shown: str | None = None) -> str:
    key = env.get(name, "").strip()
    if not key:
        raise InputError(
            f"{shown or name} is not set: export {shown or name}=sk-mavi-... "
            "(made in the console), or try without a key: --gateway sandbox"
        )
    if key.lower().startswith("bearer "):
        raise InputError(f"{name} begins with 'Bearer ': the gateway wants the raw key, without it")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(f"{name} holds characters that no key has (spaces, line ends?): copy it again")
    return key
