"""A dataset's tables as pandas frames, with the types they have in Parquet.

    from mavi_tasks.storage.dataframe import dataframe
    dataframe("out/pets")                          # results, one row per item, prompt and model
    dataframe("out/pets", "attempts")

`pd.read_parquet` works too, but turns whole numbers with nulls into floats and money into Python objects;
here money stays decimal128 and counts stay int64, because every column keeps its Arrow type.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from mavi_tasks.storage.tables import counting

if TYPE_CHECKING:
    import pandas as pd


def dataframe(root: Path | str, table: str = "results", *, all_versions: bool = False) -> "pd.DataFrame":
    """One of results, attempts, runs, labels. Of results and labels the rows that count (recency.py).

    all_versions: one row for each text of a prompt, not only for the newest.
    Raises InputError when the folder is no dataset.
    """
    import pandas as pd

    rows = counting(Path(root), table, all_versions=all_versions)
    made: pd.DataFrame = rows.to_pandas(types_mapper=pd.ArrowDtype)
    return made
