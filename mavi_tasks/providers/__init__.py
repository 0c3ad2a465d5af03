"""The provider families: which one serves a model, and how its requests and replies are written.

    from mavi_tasks import providers
    family = providers.family_of("nova:us.amazon.nova-lite-v1:0")
    family.routes["video"].endpoint     # "/vu"
    family.body(request)                  # the JSON body
    family.answer(payload)              # text and tokens

A new family is one file and one line in registry.FAMILIES.
"""

from mavi_tasks.providers.base import (
    CHAT_PATH,
    Answer,
    Family,
    MediaKind,
    Part,
    PromptRequest,
    Route,
    Usage,
    WireOptions,
)
from mavi_tasks.providers.registry import FAMILIES, KNOWN_PARAMS, family_of, is_known, nearest_model, split

__all__ = [
    "CHAT_PATH",
    "FAMILIES",
    "KNOWN_PARAMS",
    "Answer",
    "Family",
    "MediaKind",
    "Part",
    "PromptRequest",
    "Route",
    "Usage",
    "WireOptions",
    "family_of",
    "is_known",
    "nearest_model",
    "split",
]  # fmt: skip
