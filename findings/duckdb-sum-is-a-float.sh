#!/usr/bin/env bash
# duckdb 2.0.1 with pandas 3.1.1: the sum of a column of int64 comes back as float64, and is wrong beyond 2^53.
#
# sum() of a BIGINT is a HUGEINT, which pandas has no type for. .df() rounds it to the next double without a word; max(), count() and the
# column itself stay int64 in the same frame. The same query gives the exact integer by fetchall(), and decimal128(38, 0) by Arrow.
# Why it surprises: the overflow that HUGEINT prevents is 1,024 times as far away as the loss that it brings.
# What it means: a total of bytes that is compared with an exact one, as a registry's disk with the sum of its layers, differs by rounding,
# and a join of sums with integers is a join of floats. Write sum(size)::bigint, which fails where it would not fit.
#
# Needs python3; the packages come from PyPI.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check duckdb==2.0.1 pandas==3.1.1 pyarrow==26.0.1
"$work/venv/bin/python" - <<'PYTHON'
import duckdb
import pandas as pd

layers = pd.DataFrame({"size": [2**53, 1]})
exact = int(layers["size"].sum())
rows = duckdb.sql("SELECT sum(size) AS total, max(size) AS largest, count(*) AS number, sum(size)::bigint AS cast_total FROM layers")
frame, table = rows.df(), rows.to_arrow_table()
print("types of the query:", *rows.types)
print("pandas:", {name: str(dtype) for name, dtype in frame.dtypes.items()})
print("arrow: ", {field.name: str(field.type) for field in table.schema})
print(f"exact {exact}, fetchall {rows.fetchall()[0][0]}, pandas {int(frame['total'][0])}, cast {frame['cast_total'][0]}")
assert [str(kind) for kind in rows.types] == ["HUGEINT", "BIGINT", "BIGINT", "BIGINT"]
assert [str(dtype) for dtype in frame.dtypes] == ["float64", "int64", "int64", "int64"]
assert str(table.schema.field("total").type) == "decimal128(38, 0)"
assert rows.fetchall()[0][0] == exact == frame["cast_total"][0] == int(table["total"][0].as_py())
assert int(frame["total"][0]) == exact - 1
PYTHON
