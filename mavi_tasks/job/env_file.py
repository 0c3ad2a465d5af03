"""The file `.env` of the current folder: keys, so that they need not be exported.

| variable                           | of `.env`                                                             |
|------------------------------------|-----------------------------------------------------------------------|
| a name that ends in _API_KEY       | is taken                                                              |
| MAVI_BASE_URL                      | is taken when the user trusts its host (job/trusted_hosts.py), or it  |
|                                    | is this machine; else nothing is sent                                 |
| MAVI_TRUSTED_HOSTS and other MAVI_ | is not taken, with a warning: it decides where keys and requests go,  |
|                                    | or which code runs                                                    |
| any other                          | is left alone, without a warning                                      |

The environment wins. The folder may come from someone else, so the file may not widen what the user trusts.
A file that another user owns, or everybody can change, is left alone. `${...}` in a value is text, never
another variable. No message holds a value.
"""

import io
import os
import stat
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from dotenv.parser import Binding, parse_stream

from mavi_tasks.common.regular_file import open_binary
from mavi_tasks.errors import InputError
from mavi_tasks.job import endpoint, trusted_hosts
from mavi_tasks.job.sections import Gateway

NAME: Final = ".env"
MAX_BYTES: Final = 65_536
_BASE_URL: Final = "MAVI_BASE_URL"
_ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class EnvFile:
    """What a `.env` gives, and what is wrong with it.

    values: variables that the environment does not have. warnings: what was left out, and why. problem: why
    nothing may be sent; None = nothing.
    """

    path: Path
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()
    problem: str | None = None


def load(folder: Path, env: MutableMapping[str, str]) -> tuple[str, ...]:
    """Put the folder's `.env` into an environment; returns the warnings. Raises InputError."""
    found = read(folder, env)
    if found is None:
        return ()
    if found.problem is not None:
        raise InputError(found.problem)
    env.update(found.values)
    return found.warnings


def read(folder: Path, env: Mapping[str, str]) -> EnvFile | None:
    """The folder's `.env`; None when there is none. Changes nothing and never raises."""
    path = folder / NAME
    if not os.path.lexists(path):
        return None
    try:
        with open_binary(path) as file:
            info = os.fstat(file.fileno())
            unsafe = _unsafe(info)
            text = "" if unsafe else _text(file)
    except OSError as error:
        return EnvFile(path, warnings=(f"{path}: cannot be read ({error.strerror}); nothing is taken",))
    except ValueError as error:
        return EnvFile(path, warnings=(f"{path}: {error}; nothing is taken",))
    if unsafe:
        return EnvFile(path, warnings=(f"{path}: {unsafe}; nothing is taken",))
    return _taken(path, text, env, readable_by_all=_open_to(info, stat.S_IROTH))


def _text(file: BinaryIO) -> str:
    content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES:,} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None


def _unsafe(info: os.stat_result) -> str | None:
    """Why others could have written the file; None when only the user or root could."""
    if hasattr(os, "getuid") and info.st_uid not in (os.geteuid(), _ROOT):
        return f"belongs to another user (uid {info.st_uid}): make it yours (chown), or export the key"
    if _open_to(info, stat.S_IWOTH):
        return "can be changed by every user of this machine: look at what is in it, then: chmod 600 .env"
    return None


def _open_to(info: os.stat_result, right: int) -> bool:
    return hasattr(os, "getuid") and bool(info.st_mode & right)


def _taken(path: Path, text: str, env: Mapping[str, str], *, readable_by_all: bool) -> EnvFile:
    values: dict[str, str] = {}
    warnings: list[str] = []
    for line, name, value in _variables(path, text, warnings):
        if name in env or (name in endpoint.MAVI_KEYS and any(key in env for key in endpoint.MAVI_KEYS)):
            continue
        if name.endswith("_API_KEY") or name == _BASE_URL:
            values[name] = value
        elif name.startswith("MAVI_"):
            warnings.append(f"{path}:{line}: {name} is not taken from a file of a folder: export it")
    if readable_by_all and any(name != _BASE_URL for name in values):
        warnings.append(f"{path}: every user of this machine can read its keys: chmod 600 .env")
    return EnvFile(path, values, tuple(warnings), _untrusted(path, values, env))


def _variables(path: Path, text: str, warnings: list[str]) -> Iterator[tuple[int, str, str]]:
    """Line, name and value; of a name that comes twice both, the last one counts."""
    bad = 0
    for one in parse_stream(io.StringIO(text)):
        if _is_bad(one):
            bad += 1
            if bad == 1:  # one is enough to look at the file
                warnings.append(f"{path}:{_line(one)}: is no NAME=value; it is left out")
        elif one.key and one.value:
            yield _line(one), one.key, one.value


def _line(one: Binding) -> int:
    """Where the variable stands; the parser counts from the blank lines before it."""
    text = one.original.string
    return one.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _is_bad(one: Binding) -> bool:
    return one.error or (one.key is not None and one.value is None) or "\0" in (one.value or "")


def _untrusted(path: Path, values: Mapping[str, str], env: Mapping[str, str]) -> str | None:
    """Why MAVI_BASE_URL of the file must not be used: a hostile folder would get the user's key by it."""
    if _BASE_URL not in values:
        return None
    try:
        base_url = endpoint.resolve_endpoint(Gateway(), values, sends=False).base_url or ""
        trusted_hosts.check(base_url, endpoint.MAVI_KEYS[0], env, own_urls=(endpoint.MAVI_BASE_URL,))
    except InputError as error:
        return f"{path}: {_BASE_URL}: " + str(error).removeprefix(f"{_BASE_URL} ").removeprefix(
            "gateway.base_url: "
        )
    return None
