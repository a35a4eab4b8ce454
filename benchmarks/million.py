"""A very large registry: its frames, generated as columns, or its snapshot, written by DuckDB with little memory."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from corpus import LAYER

from regnb.analysis.inventory import Inventory
from regnb.oci.manifest import OCI_CONFIG, OCI_MANIFEST
from regnb.tables.columns import COLUMNS
from regnb.tables.frame import Frame, make


def digests(count: int, seed: int) -> pd.Series[str]:
    """Random digests, without a Python string for each."""
    text = np.empty((count, 71), np.uint8)
    text[:, :7] = np.frombuffer(b"sha256:", np.uint8)
    hexadecimal = np.random.default_rng(seed).bytes(32 * count).hex().encode()
    text[:, 7:] = np.frombuffer(hexadecimal, np.uint8).reshape(count, 64)
    offsets = pa.py_buffer((np.arange(count + 1, dtype=np.int32) * 71).tobytes())
    return pa.StringArray.from_buffers(count, offsets, pa.py_buffer(text.tobytes())).to_pandas().astype("str")


def same(value: str | None, count: int) -> pd.Series[str]:
    return pd.Series([value], dtype="str").take(np.zeros(count, dtype=np.int64))


def tables(*, tags: int, manifests: int, references: int, layers: int, repositories: int) -> dict[str, Frame]:
    """Make the frames. A quarter of a manifest's layers is one of fifty base layers; the others are drawn at random."""
    chance = np.random.default_rng(7)
    layer, manifest, config = digests(layers, 1), digests(manifests, 2), digests(manifests, 3)
    size = chance.integers(100, 100_000_000, layers)
    names = pd.Series([f"ns{number % 300}/app{number}" for number in range(repositories)], dtype="str")
    names = names.sort_values(ignore_index=True)
    home = np.sort(chance.integers(0, repositories, manifests))
    owner = np.sort(chance.integers(0, manifests, references))
    base = chance.random(references) < 0.25
    drawn = np.where(base, chance.integers(0, 50, references), chance.integers(0, layers, references))
    pulled = np.bincount(owner, size[drawn], minlength=manifests).astype(np.int64) + 3000
    points = np.concatenate([np.arange(manifests), chance.integers(0, manifests, tags - manifests)])
    points.sort()
    when = pd.Series(pd.to_datetime(1_700_000_000 + chance.integers(0, 60_000_000, manifests), unit="s", utc=True))
    none = np.zeros(max(tags, references, layers + 2 * manifests), dtype=np.int64)
    kinds = pd.Series(["layer", "config", "manifest"], dtype="str")
    made: dict[str, dict[str, Any]] = {
        "repositories": {
            "repository": names, "status": same("read", repositories), "newest": when.iloc[:repositories],
            "complete": none[:repositories] == 0,
        },
        "tags": {
            "repository": names.take(home[points]), "tag": pd.Series(np.arange(tags)).astype("str").radd("v"),
            "digest": manifest.take(points), "kind": same("image", tags), "platforms": same("linux/amd64", tags),
            "created": when.take(points), "dated": same("config", tags), "size": pulled[points],
            "subject": same(None, tags), "complete": none[:tags] == 0,
        },
        "manifests": {
            "repository": names.take(home), "digest": manifest, "kind": same("image", manifests),
            "media_type": same(OCI_MANIFEST, manifests), "artifact_type": same(OCI_CONFIG, manifests), "config": config,
            "platform": same("linux/amd64", manifests), "created": when, "size": pulled,
            "subject": same(None, manifests), "checked": none[:manifests] == 0, "complete": none[:manifests] == 0,
        },
        "children": {"manifest": pd.Categorical([]), "position": [], "child": pd.Categorical([])},
        "layers": {
            "manifest": pd.Categorical.from_codes(owner, pd.Index(manifest)),
            "position": np.arange(references) - np.searchsorted(owner, owner),
            "digest": pd.Categorical.from_codes(drawn, pd.Index(layer)),
            "media_type": pd.Categorical.from_codes(none[:references], pd.Index([LAYER])),
            "size": size[drawn],
            "command": pd.Categorical.from_codes(drawn % 1000, pd.Index([f"RUN step {step}" for step in range(1000)])),
        },
        "blobs": {
            "digest": pd.concat([layer, config, manifest], ignore_index=True),
            "kind": kinds.take(np.repeat([0, 1, 2], [layers, manifests, manifests])),
            "media_type": same("", layers + 2 * manifests),
            "size": np.concatenate([size, none[:manifests] + 2000, none[:manifests] + 1000]),
        },
    }  # fmt: skip
    found = {}
    for name in list(COLUMNS)[: list(COLUMNS).index("disk") + 1]:
        columns = made.get(name, {})
        rows = len(next(iter(columns.values()), ()))
        # What is computed is not there yet: a number is 0, and a text, or what may be missing, is missing.
        empty = {
            column: none[:rows] if dtype in {"int64", "int32", "bool"} else same(None, rows)
            for column, (dtype, _) in COLUMNS[name].items()
        }
        found[name] = make(name, empty | columns)
    return found


NOW = datetime(2026, 1, 1, tzinfo=UTC)

_SNAPSHOT = """
CREATE MACRO named(kind, number) AS 'sha256:' || sha256(kind || number);
CREATE MACRO called(number) AS format('ns{:03d}/app{:06d}', number // 100, number);
CREATE MACRO place(manifest) AS called(manifest::BIGINT * $repositories // $manifests);
CREATE MACRO made(manifest) AS to_timestamp(1700000000 + (hash('date' || manifest) % 60000000)::BIGINT);
CREATE MACRO bytes(layer) AS 100 + (hash('size' || layer) % 100000000)::BIGINT;
CREATE TABLE refer AS SELECT manifest::INTEGER AS manifest, position::INTEGER AS position,
    (hash(manifest * 64 + position) % if(hash(position * 99991 + manifest) % 4 = 0, 50, $layers))::INTEGER AS layer
FROM (SELECT manifest, unnest(range((1 + hash(manifest) % 15)::BIGINT)) AS position FROM range($manifests) t(manifest));
CREATE TABLE pulled AS SELECT manifest, 3000 + sum(bytes(layer))::BIGINT AS size FROM refer GROUP BY manifest;
COPY (SELECT called(i) AS repository, 'read' AS status, true AS complete
    FROM range($repositories) t(i)) TO '$folder/repositories.parquet';
COPY (SELECT place(manifest) AS repository, 'v' || tag AS tag, named('m', manifest) AS digest, 'image' AS kind,
    'linux/amd64' AS platforms, made(manifest) AS created, 'config' AS dated, size, true AS complete
    FROM (SELECT tag, if(tag < $manifests, tag, (hash(tag) % $manifests)::BIGINT)::INTEGER AS manifest
        FROM range($tags) t(tag))
    JOIN pulled USING (manifest) ORDER BY manifest, tag) TO '$folder/tags.parquet';
COPY (SELECT place(i) AS repository, named('m', i) AS digest, 'image' AS kind, '$manifest_type' AS media_type,
    named('c', i) AS config, made(i) AS created, true AS checked, true AS complete
    FROM range($manifests) t(i)) TO '$folder/manifests.parquet';
COPY (SELECT named('m', manifest) AS manifest, position, named('l', layer) AS digest, bytes(layer) AS size FROM refer)
    TO '$folder/layers.parquet';
COPY (SELECT named('l', i) AS digest, 'layer' AS kind, bytes(i) AS size FROM range($layers) t(i)
    UNION ALL SELECT named('c', i), 'config', 2000 FROM range($manifests) t(i)
    UNION ALL SELECT named('m', i), 'manifest', 1000 FROM range($manifests) t(i)) TO '$folder/blobs.parquet';
"""


def write(folder: Path, tags: int, memory: str = "3GB") -> int:
    """Write the snapshot of a generated registry, and return how many references from manifests to layers it has."""
    import duckdb
    from pyarrow import parquet

    few = {"tags": 10, "manifests": 7, "references": 56, "layers": 60, "repositories": 2}
    where = Path(Inventory("generated:5000", NOW, NOW, tables(**few)).save(folder))
    numbers = {"tags": tags, "manifests": tags * 7 // 10, "layers": tags, "repositories": max(1, tags // 100)}
    query = _SNAPSHOT.replace("$folder", str(where)).replace("$manifest_type", OCI_MANIFEST)
    for name, number in numbers.items():
        query = query.replace(f"${name}", str(number))
    spilled = {"memory_limit": memory, "temp_directory": str(folder / "parts"), "preserve_insertion_order": "true"}
    with duckdb.connect(config=spilled) as database:
        database.execute("SET enable_progress_bar = false")  # it would be printed among the figures
        for statement in query.split(";"):
            database.execute(statement)
        (references,) = database.execute("SELECT count(*) FROM refer").fetchall()[0]
    header = json.loads((where / "snapshot.json").read_text())
    for name, about in header["files"].items():
        file = where / f"{name}.parquet"
        about |= {"rows": parquet.read_metadata(file).num_rows, "size": file.stat().st_size}
    (where / "snapshot.json").write_text(json.dumps(header))
    return int(references)
