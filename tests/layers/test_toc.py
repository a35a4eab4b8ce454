"""A table of contents lists a layer with few bytes; one that does not hold is not believed."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from archives import estargz

from regnb.errors import ContentError, TooLarge
from regnb.layers import toc
from regnb.layers.compression import Caps
from regnb.layers.listing import listing
from regnb.oci.manifest import Descriptor
from regnb.oci.reference import Digest

ENTRIES = [
    ("usr/", "directory", b""),
    ("usr/large", "file", bytes(range(256)) * 10),
    ("usr/empty", "file", b""),
    ("usr/small", "file", b"small"),
    ("usr/link", "symlink", "small"),
    ("usr/hard", "hardlink", "usr/small"),
]
ESTARGZ = "containerd.io/snapshot/stargz/toc.digest"


def described(blob: bytes, **annotations: object) -> Descriptor:
    return Descriptor(Digest.of(blob), len(blob), annotations=annotations)


def table(blob: bytes, layer: Descriptor) -> tuple[toc.Table, int]:
    """The table, and how many bytes were fetched for it."""
    place = toc.where(layer)
    assert place is not None
    fetched = 0

    async def fetch(begin: int, end: int) -> bytes:
        nonlocal fetched
        assert 0 <= begin < end <= len(blob)
        fetched += end - begin
        return blob[begin:end]

    return anyio.run(toc.read, layer, place, fetch), fetched


def rows(found: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = found.table.to_pylist()
    return [{key: value for key, value in row.items() if key != "packed"} for row in rows]


def test_estargz_lists_what_its_bytes_hold() -> None:
    """A layer as the specification describes it: the table lists what the stream lists, but for the table itself."""
    blob, digest = estargz(ENTRIES)
    layer = described(blob, **{ESTARGZ: digest})
    found, fetched = table(blob, layer)
    listed, streamed = toc.listing(found), listing([blob])
    assert listed.way == "toc"
    assert rows(listed) == rows(streamed)[:-1]
    assert rows(streamed)[-1]["name"] == b"stargz.index.json"
    assert fetched < 900
    sizes = [row["packed"] for row in listed.table.to_pylist()]
    assert sizes[1] > sizes[3] > 0
    assert sum(sizes) <= found.end


def test_a_table_that_does_not_hold_is_told() -> None:
    """Another digest, no footer, a footer that leads nowhere, bytes that are not a table, places beyond the files."""
    blob, digest = estargz(ENTRIES)
    other = Digest.of(b"other")
    with pytest.raises(ContentError, match="not the one that the manifest names"):
        table(blob, described(blob, **{ESTARGZ: other}))
    with pytest.raises(ContentError, match="no footer"):
        table(blob + bytes(51), described(blob + bytes(51), **{ESTARGZ: digest}))
    wrong = blob.replace(b"STARGZ", b"STARGZ".lower())
    with pytest.raises(ContentError, match="no footer"):
        table(wrong, described(wrong, **{ESTARGZ: digest}))
    damaged = bytearray(blob)
    begin = table(blob, described(blob, **{ESTARGZ: digest}))[0].end
    damaged[begin + 30 : begin + 50] = b"\xff" * 20
    with pytest.raises(ContentError, match="corrupt"):
        table(bytes(damaged), described(bytes(damaged), **{ESTARGZ: digest}))
    beyond = toc.Table([toc.Item("reg", "a", 1, offset=99)], 50)
    with pytest.raises(ContentError, match="beyond the end"):
        toc.listing(beyond)


def test_a_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a table claims to become, and how many entries it has."""
    blob, digest = estargz(ENTRIES)
    found, _ = table(blob, described(blob, **{ESTARGZ: digest}))
    with pytest.raises(TooLarge, match="more than 3 entries"):
        toc.listing(found, Caps(entries=3))
    monkeypatch.setattr(toc, "TABLE_LIMIT", 1000)
    with pytest.raises(TooLarge, match="grow to more than"):
        table(blob, described(blob, **{ESTARGZ: digest}))
    notes = {"io.containers.zstd-chunked.manifest-checksum": digest}
    notes["io.containers.zstd-chunked.manifest-position"] = "0:10:99999:1"
    with pytest.raises(TooLarge, match="table of contents has"):
        table(blob, described(blob, **notes))


@pytest.mark.parametrize(
    "notes",
    [
        {},
        {ESTARGZ: "sha256:short"},
        {ESTARGZ: 7},
        {"io.containers.zstd-chunked.manifest-checksum": Digest.of(b"")},
        {
            "io.containers.zstd-chunked.manifest-checksum": Digest.of(b""),
            "io.containers.zstd-chunked.manifest-position": "0:999999:5:1",
        },
        {
            "io.github.containers.zstd-chunked.manifest-checksum": Digest.of(b""),
            "io.github.containers.zstd-chunked.manifest-position": "0:9:5:2",
        },
    ],
    ids=json.dumps,
)
def test_annotations_that_name_no_table(notes: dict[str, object]) -> None:
    """No annotation, a malformed one, a place beyond the layer, an unknown kind: the layer is streamed."""
    assert toc.where(Descriptor(Digest.of(b"x"), 1000, annotations=notes)) is None
