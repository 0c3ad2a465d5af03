"""Which host may receive which key. The user says so, never a job: a job may come from someone else.

| key                                     | goes to                                                         |
|-----------------------------------------|-----------------------------------------------------------------|
| MAVI's: MAVI_API_KEY, MAVI_..._API_KEY, | MAVI, the host of MAVI_BASE_URL, loopback, and the hosts that   |
| MEMORIES_API_KEY                        | the user trusts                                                 |
| any other variable that a job names     | loopback, and the hosts that the user trusts with this variable |

The user trusts a host once, by `mavi run ... --trust-host HOST` or `--trust-host HOST=VARIABLE`; it is stored
in `$XDG_CONFIG_HOME/mavi/trusted_hosts` (else `~/.config/mavi/trusted_hosts`). On workers, the environment
variable MAVI_TRUSTED_HOSTS holds such entries, separated by commas. No key leaves this machine over plain
http.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from mavi_tasks.errors import InputError
from mavi_tasks.job import trust_file

FILE: Final = "trusted_hosts"
TRUSTED_HOSTS: Final = "MAVI_TRUSTED_HOSTS"
MAVI_KEY_NAME: Final = re.compile(r"(MAVI|MEMORIES)(_\w+)?_API_KEY")
_ENTRY: Final = re.compile(r"(?P<host>[A-Za-z0-9.:_\[\]-]+)(=(?P<variable>[A-Za-z_][A-Za-z0-9_]*_API_KEY))?")
_MAVI: Final = ""  # the variable of an entry without one


def check(base_url: str, variable: str, env: Mapping[str, str], *, own_urls: tuple[str | None, ...]) -> None:
    """Raise InputError when the key in `variable` must not be sent to `base_url`.

    own_urls: MAVI's base URL and the one in the environment, None when that is not set.
    """
    url = urlsplit(base_url)
    host = _host(base_url)
    if is_loopback(host):
        return
    if url.scheme != "https":
        raise InputError(
            f"gateway.base_url: {url.scheme}://{url.netloc} would send the key in {variable} unencrypted; "
            "use https"
        )
    is_mavi_key = MAVI_KEY_NAME.fullmatch(variable) is not None
    if is_mavi_key and host in {_host(own) for own in own_urls if own is not None}:
        return
    if (_MAVI if is_mavi_key else variable) in _trusted(env).get(host, ()):
        return
    entry = host if is_mavi_key else f"{host}={variable}"
    raise InputError(
        f"gateway.base_url: the key in {variable} is not sent to {host}, because you have not trusted this "
        f"host with it. If it should get the key, say so once: mavi run ... --trust-host {entry} "
        f"(on workers: {TRUSTED_HOSTS}={entry})"
    )


def trust(entry: str, env: Mapping[str, str]) -> None:
    """Store a host that the user trusts: HOST for the MAVI key, HOST=VARIABLE for another one.

    Raises InputError when it is neither, or cannot be stored.
    """
    _parse(entry, "--trust-host")
    trust_file.add(FILE, entry, "--trust-host", env)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").lower()


def _trusted(env: Mapping[str, str]) -> dict[str, set[str]]:
    """The variables that each host may get."""
    found: dict[str, set[str]] = {}
    for where, entry in trust_file.entries(FILE, TRUSTED_HOSTS, env):
        host, variable = _parse(entry, where)
        found.setdefault(host, set()).add(variable)
    return found


def _parse(entry: str, where: str) -> tuple[str, str]:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise InputError(
            f"{where}: {entry!r} must be a host (api.example.com), or a host and the variable of its key "
            "(api.example.com=EXAMPLE_API_KEY)"
        )
    return match["host"].lower(), match["variable"] or _MAVI
