"""The four families, by the prefix of their model names."""

from .base import AnswerFormat, Call, Completion, Endpoint, Family
from .gemini import GEMINI
from .gpt import GPT
from .nova import NOVA
from .qwen import QWEN

FAMILIES = {family.name: family for family in (GEMINI, QWEN, NOVA, GPT)}

__all__ = ["FAMILIES", "AnswerFormat", "Call", "Completion", "Endpoint", "Family"]
