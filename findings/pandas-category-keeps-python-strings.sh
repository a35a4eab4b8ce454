#!/usr/bin/env bash
# pandas 3.1.1 keeps a Python string for every category of a Categorical whose categories are Arrow's strings, to have checked that each is unique.
#
# 50,000 digests are an Index of the dtype str, which Arrow holds: 71 bytes each. Categorical.from_codes on it, with ten codes, asks whether the
# categories are unique; the table that answers is made of Python strings, and stays as long as the categories do: 110 bytes and more for each.
# Why it surprises: the strings stay with Arrow, no call asked for objects, nothing was looked up, and memory_usage(deep=True) does not show it.
# What it means: a column of digests as categories takes two and a half times what Arrow's strings take, unless the index forgets what it checked.
#
# Needs python3; pandas and pyarrow come from PyPI.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >count.py <<'PYTHON'
import gc
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa

COUNT = 50_000
texts = pa.array([f"sha256:{number:064x}" for number in range(COUNT)], pa.large_string())
index = pd.Index(texts.to_pandas(), dtype="str")
gc.collect()
tracemalloc.start()


def each() -> float:
    gc.collect()
    return tracemalloc.get_traced_memory()[0] / COUNT


before = each()
made = pd.Categorical.from_codes(np.zeros(10, dtype=int), index)
print(pd.__version__, index.dtype, type(made.categories.array).__name__)
print("more than 100 bytes of Python for each category:", each() - before > 100)
print("of which memory_usage(deep=True) shows:", made.memory_usage(deep=True) / COUNT > 100)
made.categories._reset_cache()
print("after the index has forgotten what it checked:", round(each() - before))
PYTHON
python3 -m venv here
here/bin/pip install -qq --disable-pip-version-check pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
here/bin/python count.py | tee seen
diff seen - <<'EXPECTED'
3.1.1 str ArrowStringArray
more than 100 bytes of Python for each category: True
of which memory_usage(deep=True) shows: False
after the index has forgotten what it checked: 0
EXPECTED
