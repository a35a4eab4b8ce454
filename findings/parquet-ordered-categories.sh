#!/usr/bin/env bash
# One Parquet file, three orders: pandas 3.1.1 keeps the order of categories, polars 2.1.0 and DuckDB 2.0.1 sort by the alphabet.
#
# A table of problems has a column severity, an ordered categorical low < medium < high, written with pandas. pyarrow reads it back
# as an ordered dictionary, and pandas sorts low, medium, high. polars reads the same file as Categorical and sorts high, low,
# medium. DuckDB reads it as VARCHAR, with the same order and with max() = 'medium'. Asked for the DataFrame instead of the
# file, DuckDB makes an ENUM of it, sorts as pandas does, and answers max() = 'high'.
# Why it surprises: Arrow's schema has the flag `ordered` for dictionaries (Columnar format, Dictionary-encoded layout; Schema.fbs),
# it stands in the file's ARROW:schema, and polars has an ordered Enum as DuckDB has an ENUM. The same SQL gives two answers for the
# same rows, without a warning.
# What it means: "the worst severity a repository", "the first 20 by size class", or WHERE severity >= 'medium' on exported
# audit tables keeps the wrong rows in one tool and the right ones in the other. Export a number beside the words, and sort by it.
#
# Needs python3; the packages come from PyPI.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pandas==3.1.1 pyarrow==26.0.1 polars==2.1.0 duckdb==2.0.1
cd "$work"
venv/bin/python - <<'PYTHON'
import duckdb, pandas, polars, pyarrow, pyarrow.parquet

print(*(f"{module.__name__} {module.__version__}" for module in (pandas, pyarrow, polars, duckdb)))
problems = pandas.DataFrame({
    "tag": ["a", "b", "c"],
    "severity": pandas.Categorical(["high", "low", "medium"], categories=["low", "medium", "high"], ordered=True),
})
problems.to_parquet("problems.parquet")
schema = pyarrow.parquet.read_schema("problems.parquet").field("severity").type

def of(source):
    rows = duckdb.sql(f"SELECT severity FROM {source} ORDER BY severity").df()["severity"].tolist()
    return rows, duckdb.sql(f"SELECT max(severity) AS worst FROM {source}").df()["worst"].tolist()[0]

frame, read = polars.read_parquet("problems.parquet"), pandas.read_parquet("problems.parquet")
seen = {
    "pandas, file": (read["severity"].sort_values().tolist(), read["severity"].max()),
    "polars, file": (frame["severity"].sort().to_list(), None),
    "DuckDB, file": of("'problems.parquet'"),
    "DuckDB, DataFrame": of("problems"),
}
print(f"in the file: {schema}; in polars: {frame.schema['severity']}")
for source, (order, worst) in seen.items():
    print(f"{source:18} sorted: {order}" + (f", max: {worst}" if worst else ""))
right, alphabet = ["low", "medium", "high"], ["high", "low", "medium"]
assert schema.ordered and frame.schema["severity"] == polars.Categorical
assert seen["pandas, file"] == seen["DuckDB, DataFrame"] == (right, "high")
assert seen["polars, file"][0] == alphabet and seen["DuckDB, file"] == (alphabet, "medium")
PYTHON
