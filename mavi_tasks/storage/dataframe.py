"""A dataset's tables as pandas frames, with the types they have in Parquet.

    from mavi_tasks.storage.dataframe import dataframe
    dataframe("out/pets")                          # results, the latest row of each request
    dataframe("out/pets", "attempts")

`pd.read_parquet` works too, but turns whole numbers with nulls into floats and money into Python objects;
here money stays decimal128 and counts stay int64, because every column keeps its Arrow type.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from mavi_tasks.storage.tables import latest, open_table

if TYPE_CHECKING:
    import pandas as pd


def dataframe(root: Path | str, table: str = "results", *, every_row: bool = False) -> "pd.DataFrame":
    """One of results, attempts, runs, labels. Results are the latest row of each request, or `every_row`.

    Raises InputError when the folder is no dataset.
    """
    import pandas as pd

    folder = Path(root)
    newest = table == "results" and not every_row
    rows = latest(folder) if newest else open_table(folder, table).to_table()
    made: pd.DataFrame = rows.to_pandas(types_mapper=pd.ArrowDtype)
    return made
