"""The four families, by the prefix of their models."""

from .base import Asked, Call, Completion, Endpoint, Family
from .gemini import GEMINI
from .gpt import GPT
from .nova import NOVA
from .qwen import QWEN

FAMILIES = {family.name: family for family in (GEMINI, QWEN, NOVA, GPT)}

__all__ = ["FAMILIES", "Asked", "Call", "Completion", "Endpoint", "Family"]
