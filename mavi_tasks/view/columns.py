"""A column of texts as codes and its distinct texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]
MISSING = -1


@dataclass(frozen=True, slots=True)
class CodedTexts:
    """codes: for each row a position in values, MISSING where the row has none."""

    codes: Ints
    values: pa.StringArray

    def equal(self, text: str) -> Bools:
        """Where the column is this text."""
        at = pc.index(self.values, pa.scalar(text, pa.string())).as_py()
        return self.codes == at if at >= 0 else np.zeros(len(self.codes), np.bool_)

    def matching(self, chosen: Bools) -> Bools:
        """Where the column is one of the texts that are chosen."""
        return np.append(chosen, False)[self.codes]  # MISSING is the last one

    def text(self, row: int) -> str | None:
        code = int(self.codes[row])
        found: str | None = self.values[code].as_py() if code != MISSING else None
        return found

    def counts(self, rows: Bools) -> list[tuple[str, int]]:
        """The texts of some rows, the most frequent first."""
        counted = np.bincount(self.codes[rows & (self.codes != MISSING)], minlength=len(self.values))
        order = np.argsort(-counted, kind="stable")
        return [(self.values[int(at)].as_py(), int(counted[at])) for at in order if counted[at]]


def coded_texts(arrays: Sequence[pa.DictionaryArray]) -> CodedTexts:
    """Columns one after the other."""
    if not arrays:
        return CodedTexts(np.zeros(0, np.int32), pa.array([], pa.string()))
    joined = pa.chunked_array(arrays).unify_dictionaries()
    codes = [pc.fill_null(chunk.indices, MISSING).to_numpy() for chunk in joined.chunks]
    return CodedTexts(np.concatenate(codes).astype(np.int32, copy=False), joined.chunk(0).dictionary)
