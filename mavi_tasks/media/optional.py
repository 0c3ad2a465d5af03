"""Which optional helpers are installed; asking costs nothing and loads nothing."""

from functools import lru_cache
from importlib.util import find_spec


@lru_cache(maxsize=1)
def has_pyav() -> bool:
    """Whether the extra `video` is installed: without it no frames can be taken out of videos."""
    return find_spec("av") is not None


@lru_cache(maxsize=1)
def has_heif() -> bool:
    """Whether the plugin pillow-heif is installed: Pillow alone reads AVIF, but no HEIC."""
    return find_spec("pillow_heif") is not None
