"""What comes from the environment: which gateway answers, and with which key."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from mavi_tasks.common.field_types import BaseUrl
from mavi_tasks.errors import InputError
from mavi_tasks.job import trusted_hosts
from mavi_tasks.job.sections import Gateway

MAVI_BASE_URL = "https://mavi-backend.memories.ai/serve/api/v2"
SANDBOX_KEY = "sk-sandbox"
MAVI_KEYS = ("MAVI_API_KEY", "MEMORIES_API_KEY")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go. `identity` is what the dataset's gateway column says: mavi, sandbox or a base URL.

    base_url None: the sandbox inside this process. answers: who answers in the sandbox, as text; None = the
    gateway itself answers.
    """

    identity: str
    base_url: str | None
    api_key: str | None = field(repr=False)
    answers: str | None = None

    @property
    def is_sandbox(self) -> bool:
        return self.identity == "sandbox"


def resolve_endpoint(gateway: Gateway, env: Mapping[str, str], *, sends: bool = True) -> Endpoint:
    """Resolve a job's gateway; without its key when nothing is sent.

    Raises InputError when the key it needs is not set or must not go there (job/trusted_hosts.py), or
    MAVI_BASE_URL is not a base URL.
    """
    if gateway.name == "sandbox":
        return Endpoint("sandbox", gateway.base_url, SANDBOX_KEY, "answers of a sandbox")
    base_url = (gateway.base_url or _base_url(env) or MAVI_BASE_URL).rstrip("/")
    identity = "mavi" if base_url == MAVI_BASE_URL else base_url
    return Endpoint(identity, base_url, _key(gateway, base_url, env) if sends else None)


def takes_the_mavi_key(gateway: Gateway) -> bool:
    """Whether requests carry the MAVI key: no other key is named, and the gateway speaks as MAVI does."""
    return gateway.name != "sandbox" and gateway.dialect == "mavi" and gateway.api_key_env is None


def _base_url(env: Mapping[str, str]) -> str | None:
    given = env.get("MAVI_BASE_URL")
    if not given:
        return None
    try:
        return TypeAdapter[str](BaseUrl).validate_python(given)
    except ValidationError as error:  # the value is not shown: it may hold a password
        raise InputError(f"MAVI_BASE_URL {error.errors()[0]['msg']}") from None


def _key(gateway: Gateway, base_url: str, env: Mapping[str, str]) -> str | None:
    named = gateway.api_key_env
    if gateway.dialect != "mavi" and named is not None and trusted_hosts.MAVI_KEY_NAME.fullmatch(named):
        raise InputError(f"gateway.api_key_env: {named} is for MAVI only, not for {gateway.base_url}")
    if named is None and gateway.dialect != "mavi":  # never send the MAVI key to another server
        return None
    name = named or ("MAVI_API_KEY" if env.get("MAVI_API_KEY") else "MEMORIES_API_KEY")
    trusted_hosts.check(base_url, name, env, own_urls=(MAVI_BASE_URL, _base_url(env)))
    key = _usable(name, env, shown=named or "MAVI_API_KEY")
    return key if gateway.dialect == "mavi" else f"Bearer {key}"


def _usable(name: str, env: Mapping[str, str], shown: str | None = None) -> str:
    key = env.get(name, "").strip()
    if not key:
        raise InputError(_unset(shown or name))
    if key.lower().startswith("bearer "):
        raise InputError(f"{name} begins with 'Bearer ': the gateway needs the raw key, without it")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(f"{name} holds characters that no key has (spaces, line ends?): copy it again")
    return key


def _unset(name: str) -> str:
    if name in MAVI_KEYS:
        value, otherwise = "sk-mavi-... (made in the console)", "run without a key: --gateway sandbox"
    else:
        value, otherwise = "...", "remove gateway.api_key_env from the job: then no key is sent"
    return f"{name} is not set: export {name}={value}, or {otherwise}"
