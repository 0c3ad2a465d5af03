"""Problems of rows: the first twenty in detail, all of them counted, in flat memory."""

from typing import Final

from mavi_tasks.errors import InputError

SHOWN: Final = 20


class Problems:
    """Collects problems over a whole manifest, so that all are reported together before anything is sent.

    Give the same one to `manifest.read` and `Prompts`, then `raise_any()`.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.count = 0

    def add(self, text: str, times: int = 1) -> None:
        """One problem, or `times` of the same kind of which `text` is the first."""
        if len(self.texts) < SHOWN:
            self.texts.append(text)
        self.count += times

    def __bool__(self) -> bool:
        return self.count > 0

    def error(self) -> InputError:
        """The problems as one error; the last line says how many more there are."""
        more = self.count - len(self.texts)
        return InputError([*self.texts, f"and {more:,} more problems"] if more > 0 else self.texts)

    def raise_any(self) -> None:
        """Raise InputError when there is any problem."""
        if self:
            raise self.error()
