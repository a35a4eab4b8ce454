"""A bucket is read by the listing that S3 Inventory delivered: the same inventory, of the listing's date."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import buckets
import fsspec
import pyarrow as pa
import pytest
from buckets import Asked
from conftest import Seeded
from images import regnb as command
from pyarrow import orc, parquet
from test_storage import same

import regnb
from regnb.analysis.storage import open_storage
from regnb.errors import InvalidArgument, StorageError
from regnb.storage import open_storage as opened

WHEN = 1_796_000_000_000
FIELDS = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag"


@pytest.fixture(scope="module")
def asked() -> Iterator[Asked]:
    with buckets.serve() as found:
        fs = fsspec.filesystem("s3")
        for name in ("images", "lists"):
            fs.mkdir(name)
        yield found


def deliver(form: str, where: str, folder: str, *, drop: tuple[str, ...] = ()) -> str:
    """Write what S3 Inventory would deliver of a folder, in two files, with a version that is not the latest."""
    source = "images"
    fs = fsspec.filesystem("s3")
    fs.invalidate_cache()
    rows: list[dict[str, Any]] = []
    for name, info in fs.find(f"{source}/{folder}", detail=True).items():
        key = {"bucket": source, "key": name.partition("/")[2], "version_id": "", "is_latest": True}
        rest = {"size": info["Size"], "last_modified_date": info["LastModified"], "e_tag": info["ETag"].strip('"')}
        rows.append(key | {"is_delete_marker": False} | rest)
    old = next(row for row in rows if row["key"].endswith("/link"))
    rows.append(old | {"key": old["key"].replace("/link", "x/link"), "is_latest": False})
    rows.append(old | {"key": old["key"].replace("/link", "y/link"), "is_delete_marker": True, "size": None})
    files = []
    for number in range(2):
        table = pa.Table.from_pylist(rows[number::2], schema=SCHEMA)
        table = table.drop_columns(list(drop))
        data = {"Parquet": as_parquet, "ORC": as_orc, "CSV": as_csv}[form](table)
        key = f"{where}/data/{number}"
        fs.pipe_file(f"lists/{key}", data)
        checksum = hashlib.md5(data, usedforsecurity=False).hexdigest()
        files.append({"key": key, "size": len(data), "MD5checksum": checksum})
    manifest = {
        "sourceBucket": source, "destinationBucket": "arn:aws:s3:::lists", "version": "2016-11-30",
        "creationTimestamp": str(WHEN), "fileFormat": form, "fileSchema": FIELDS, "files": files,
    }  # fmt: skip
    fs.pipe_file(f"lists/{where}/2026-11-28T01-00Z/manifest.json", json.dumps(manifest).encode())
    return f"s3://lists/{where}/2026-11-28T01-00Z/manifest.json"


SCHEMA = pa.schema([
    ("bucket", pa.string()), ("key", pa.string()), ("version_id", pa.string()), ("is_latest", pa.bool_()),
    ("is_delete_marker", pa.bool_()), ("size", pa.int64()), ("last_modified_date", pa.timestamp("ms", "UTC")),
    ("e_tag", pa.string()),
])  # fmt: skip


def as_parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    parquet.write_table(table, out)
    return out.getvalue()


def as_orc(table: pa.Table) -> bytes:
    out = io.BytesIO()
    orc.write_table(table, out)
    return out.getvalue()


def as_csv(table: pa.Table) -> bytes:
    """As S3 writes it: no heading, every field quoted, the keys encoded as in a URL."""
    lines = []
    for row in table.to_pylist():
        values = row | {"key": quote_plus(row["key"], safe="/")}
        if when := row["last_modified_date"]:
            values["last_modified_date"] = when.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        texts = ["" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
                 for value in values.values()]  # fmt: skip
        lines.append(",".join(f'"{text}"' for text in texts))
    return gzip.compress("\n".join(lines).encode())


@pytest.mark.parametrize("form", ["Parquet", "ORC", "CSV"])
def test_a_delivered_listing_gives_the_same_inventory(asked: Asked, form: str, seeded_real: Seeded) -> None:
    """Every frame is that of a reading which lists, nothing is listed page by page, and a problem names the date."""
    buckets.put(seeded_real.root, f"images/a b+{form}")
    url = f"s3://images/a b+{form}"
    whole = open_storage(url).inventory()
    listing = deliver(form, f"all-{form}", f"a b+{form}")
    asked.requests.clear()
    found = open_storage(url, listing=listing).inventory()
    same(whole, found, set(whole.frames) - {"disk", "problems", "coverage"})
    noted = found.problems[found.problems["problem"] == "listing"]
    assert "2026-11-30" in noted["message"].item()
    assert found.started.timestamp() * 1000 == WHEN
    assert found.complete == whole.complete
    assert len(found.problems) == len(whole.problems) + 1
    assert set(found.coverage.set_index("what")["source"][["tags", "manifests"]]) == {
        "S3 Inventory of 2026-11-30 00:53 UTC",
        "storage",
    }
    kept = {"blobs", "links", "uploads", "other", "folders"}
    disk, other = (one.disk.set_index("what")[["files", "size"]] for one in (whole, found))
    assert disk.loc[sorted(kept & {*disk.index})].equals(other.loc[sorted(kept & {*disk.index})])
    lists = [one for one in asked.requests if "list-type" in one]
    assert len(lists) <= 5  # where the registry is
    assert not [one for one in asked.requests if one.partition("?")[0].endswith(("/data", "/link"))]


def test_without_etags_links_are_read(asked: Asked, seeded_real: Seeded, tmp_path: Path) -> None:
    """A listing that tells no ETag, copied to a folder with its files, gives the same, by reading every link."""
    buckets.put(seeded_real.root, "images/plain")
    whole = open_storage("s3://images/plain").inventory()
    listing = deliver("Parquet", "bare", "plain", drop=("e_tag", "last_modified_date", "is_latest", "is_delete_marker"))
    fsspec.filesystem("s3").get("lists/bare", str(tmp_path / "bare"), recursive=True)
    asked.requests.clear()
    copied = next(tmp_path.glob("bare/**/manifest.json"))
    assert copied.name in listing
    found = open_storage("s3://images/plain", listing=copied).inventory()
    assert found.tags["digest"].tolist() == whole.tags["digest"].tolist()
    assert [one for one in asked.requests if one.endswith("/current/link")]
    same(found, regnb.read("s3://images/plain", listing=copied), set(found.frames) - {"disk"})
    for where in ("localhost:5000", tmp_path):
        with pytest.raises(InvalidArgument, match="a listing needs a bucket"):
            regnb.read(where, listing=copied)


def test_what_is_gone_is_said(asked: Asked, seeded_real: Seeded) -> None:
    """A manifest that was removed after the listing makes the inventory incomplete; a plan lists anew."""
    buckets.put(seeded_real.root, "images/gone")
    listing = deliver("Parquet", "gone", "gone", drop=("e_tag",))
    fs = fsspec.filesystem("s3")
    link = next(key for key in fs.find("images/gone") if key.endswith("/current/link"))
    fs.rm_file(link)
    found = open_storage("s3://images/gone", listing=listing).inventory()
    noted = found.problems[found.problems["problem"] == "listing"]
    assert "1 file of it is gone" in noted["message"].item()
    assert not found.complete
    plan = opened("s3://images/gone", listing=listing)
    live = opened("s3://images/gone")
    options = {"grace": "0h", "endpoints": ["http://127.0.0.1:1"]}
    assert plan.plan_collect(**options).summary() == live.plan_collect(**options).summary()  # type: ignore[arg-type]


def test_a_listing_that_is_not_whole_is_refused(asked: Asked, seeded_real: Seeded, tmp_path: Path) -> None:
    """What a listing lacks would be taken for deleted: a file that is gone or changed, another bucket, no manifest."""
    buckets.put(seeded_real.root, "images/refused")
    fs = fsspec.filesystem("s3")
    url = "s3://images/refused"
    listing = deliver("CSV", "bad", "refused")
    fs.pipe_file("lists/bad/data/1", b"other bytes")
    with pytest.raises(StorageError, match="is damaged: bad/data/1"):
        open_storage(url, listing=listing).inventory()
    fs.rm_file("lists/bad/data/1")
    with pytest.raises(StorageError, match="is not whole: bad/data/1"):
        open_storage(url, listing=listing).inventory()
    manifest = fs.cat_file(listing)
    fs.pipe_file(listing, manifest.replace(b'"images"', b'"others"'))
    with pytest.raises(StorageError, match="lists the bucket others"):
        open_storage(url, listing=listing).inventory()
    with pytest.raises(StorageError, match="does not tell the keys with their sizes"):
        open_storage(url, listing=deliver("Parquet", "small", "refused", drop=("size",))).inventory()
    with pytest.raises(StorageError, match="not the manifest"):
        open_storage(url, listing=f"s3://{fs.find('images/refused')[0]}").inventory()
    with pytest.raises(InvalidArgument, match="a listing needs a bucket"):
        open_storage(tmp_path, listing=listing)


def test_the_command_line_takes_a_listing(asked: Asked, seeded_real: Seeded, tmp_path: Path) -> None:
    """``regnb audit --listing`` prints the same inventory without listing, and names the date; a folder is refused."""
    buckets.put(seeded_real.root, "images/command")
    listing = deliver("Parquet", "command", "command")
    env = {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}
    whole = command(tmp_path, "audit", "s3://images/command", "--json", **env)
    asked.requests.clear()
    done = command(tmp_path, "audit", "s3://images/command", "--listing", listing, "--json", **env)
    found, expected = json.loads(done.stdout), json.loads(whole.stdout)
    assert len([one for one in asked.requests if "list-type" in one]) <= 5
    assert found["repositories"] == expected["repositories"]
    assert [row["message"] for row in found["problems"] if row["problem"] == "listing"] == [
        "listed by an S3 Inventory of 2026-11-30 00:53 UTC: what was pushed or removed since is in no figure"
    ]
    assert done.returncode == whole.returncode
    refused = command(tmp_path, "audit", str(tmp_path), "--listing", listing, **env)
    assert refused.returncode == 1
    assert "a listing needs a bucket" in refused.stderr
