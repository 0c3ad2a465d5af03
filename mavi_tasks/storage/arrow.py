"""Rows of values as Arrow tables, with the columns of the schema."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from mavi_tasks.common.money import usd_name
from mavi_tasks.common.money_columns import usd_array
from mavi_tasks.schema import USD


def table_of(
    schema: pa.Schema, names: Sequence[str], rows: Sequence[Sequence[Any]], constants: Mapping[str, Any]
) -> pa.Table:
    """Rows of values as one table; a column that is neither named nor constant is null.

    Money comes as whole pico-dollars, under its column's name or that of `pico_name`.
    """
    columns = dict(zip(map(usd_name, names), zip(*rows, strict=True), strict=True))
    missing = (None,) * len(rows)
    arrays = []
    for field in schema:
        if field.name in constants:
            arrays.append(pa.repeat(constants[field.name], len(rows)).cast(field.type))
        else:
            arrays.append(array_of(field.type, columns.get(field.name, missing)))
    return pa.Table.from_arrays(arrays, schema=schema)


def array_of(kind: pa.DataType, values: Sequence[Any]) -> pa.Array:
    if values[0] is None and values.count(None) == len(values):
        return pa.nulls(len(values), kind)
    if kind == USD:
        return usd_array(values)
    if pa.types.is_dictionary(kind):
        return pa.array(values, pa.string()).dictionary_encode()
    return pa.array(values, kind)
