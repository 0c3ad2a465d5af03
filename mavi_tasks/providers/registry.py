"""Which families there are, and which one answers a model."""

import functools
import tomllib
from importlib import resources

from mavi_tasks.common.suggest import nearest
from mavi_tasks.errors import InputError
from mavi_tasks.providers.base import Family
from mavi_tasks.providers.gemini import Gemini
from mavi_tasks.providers.gpt import Gpt
from mavi_tasks.providers.nova import Nova
from mavi_tasks.providers.openai import OpenAI
from mavi_tasks.providers.qwen import Qwen

FAMILIES: dict[str, Family] = {family.name: family for family in (Gemini(), Qwen(), Nova(), Gpt(), OpenAI())}
KNOWN_PARAMS: dict[str, frozenset[str]] = {name: family.known_params for name, family in FAMILIES.items()}


def split(model: str) -> tuple[str, str]:
    """Split a wire name into family and name, at the first colon only: nova names have one of their own.

    Raises InputError for a bare name, with the nearest known model.
    """
    family, colon, name = model.partition(":")
    if not colon:
        raise InputError(
            f"model {model!r}: the family is missing; write family:name{_like(model)}, with one of the "
            f"families {', '.join(sorted(FAMILIES))}"
        )
    if not family or not name or model != "".join(model.split()):
        raise InputError(f"model {model!r}: must be family:name, without spaces{_like(model)}")
    return family, name


def family_of(model: str) -> Family:
    """The family that answers this model. Raises InputError naming the nearest family or model."""
    name, _ = split(model)
    family = FAMILIES.get(name)
    if family is not None:
        return family
    near = nearest(name, FAMILIES)
    hint = f"; the nearest is {near!r}" if near else ""
    known = ", ".join(sorted(FAMILIES))
    raise InputError(
        f"model {model!r}: unknown family {name!r}{hint}{_like(model)}; the families are {known}"
    )


def nearest_model(model: str) -> str | None:
    """The known model whose name is most like this one, family left aside; None when none is near."""
    known = {wire_name.partition(":")[2]: wire_name for wire_name in _known_models()}
    bare = model.strip().split("/")[-1]
    # a nova name without its family has a colon too, so the whole is tried first, but strictly
    near = nearest(bare, known, cutoff=0.8) or nearest(bare.partition(":")[2], known)
    return known[near] if near else None


def is_known(model: str) -> bool:
    """Whether we know a model of this name, or know no model of its family (servers of one's own)."""
    family = model.partition(":")[0]
    return model in _known_models() or not any(name.startswith(f"{family}:") for name in _known_models())


def _like(model: str) -> str:
    near = nearest_model(model)
    return f", for example {near!r}" if near else ""


@functools.cache
def _known_models() -> tuple[str, ...]:
    text = resources.files("mavi_tasks.pricing").joinpath("prices.toml").read_text("utf-8")
    return tuple(dict.fromkeys(f"{row['family']}:{row['model']}" for row in tomllib.loads(text)["price"]))
