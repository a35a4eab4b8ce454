#!/usr/bin/env bash
# pyarrow 26.0.1 writes the whole dictionary of a column into every row group of a Parquet file, whatever the rows of the group name.
#
# 200,000 rows, in order, name 20,000 digests: a DictionaryArray. The table is written as one row group, and as ten. With ten, each has 2,000 digests
# in its rows and 20,000 in its dictionary page, and the file is more than nine times as large. When the digests are plain strings, pyarrow makes a
# dictionary for each group, and the file stays as it was. dictionary_pagesize_limit is out of the way: no dictionary reaches it.
# Why it surprises: the rows are the same, the encoding is the same, dictionaries are meant to save space, and a slice of the table is what each
# group gets. Categories of pandas arrive like this: the better a frame is packed in memory, the worse it is in the file.
# What it means: a frame of millions of layers with a category of digests is compacted group by group before it is written (tables/write.py).
#
# Needs python3; pyarrow comes from PyPI.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >count.py <<'PYTHON'
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

digests = [sha256(str(number).encode()).hexdigest() for number in range(20_000)]
column = pa.DictionaryArray.from_arrays(pa.array([row // 10 for row in range(200_000)], pa.int32()), digests)
print(pa.__version__)
for name, values in (("a DictionaryArray", column), ("plain strings", column.cast(pa.string()))):
    sizes = []
    for rows in (200_000, 20_000):
        pq.write_table(pa.table({"digest": values}), "x.parquet", compression="zstd", row_group_size=rows, dictionary_pagesize_limit=2**30)
        sizes.append(Path("x.parquet").stat().st_size)
    with pq.ParquetFile("x.parquet", read_dictionary=["digest"]) as file:
        group = file.read_row_group(0)["digest"].chunk(0)
    print(f"{name}: ten groups take {sizes[1] / sizes[0]:.1f} times as much as one; the first names {len(group.unique())} and holds {len(group.dictionary)}")
PYTHON
python3 -m venv here
here/bin/pip install -qq --disable-pip-version-check pyarrow==26.0.1
here/bin/python count.py | tee seen
diff seen - <<'EXPECTED'
26.0.1
a DictionaryArray: ten groups take 9.5 times as much as one; the first names 2000 and holds 20000
plain strings: ten groups take 1.0 times as much as one; the first names 2000 and holds 2000
EXPECTED
