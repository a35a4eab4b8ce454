"""What an image shows of its layers is what a runtime unpacks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from archives import Tree, layout, packed, unpacked
from conftest import need

from regnb.errors import TooLarge
from regnb.layers import merging
from regnb.layers.archive import FILE
from regnb.layers.files import KINDS
from regnb.layers.listing import listing
from regnb.layers.merging import Merge


def shown(merge: Merge, rows: list[dict[str, object]]) -> dict[str, tuple[str, int]]:
    """Each path with its kind and size; a hard link has those of its content."""
    found = {}
    for path, entry in merge.done().files.items():
        kind, size = "directory", 0
        if entry >= 0:
            row = rows[entry]
            if KINDS[row["kind"]] == "hardlink":
                content = merge.content(path) if row["target"] else None
                row = rows[entry if content is None else content]
            kind, size = KINDS[row["kind"]], row["size"] if row["kind"] == FILE else 0
        found[path.decode()] = kind, size
    return found


def test_random_images_show_what_umoci_unpacks(tmp_path: Path) -> None:
    """Prefix by prefix of 20 images: parents that are links, replaced folders, whiteouts, hard links, equal names."""
    need("umoci", shutil.which("umoci"), "umoci is not installed (apt-get install umoci)")
    compared = 0
    for seed in range(20):
        tree = Tree(seed)
        layers = [packed(tree.layer(number)) for number in range(4)]
        layout(tmp_path / f"{seed}", {f"p{count}": layers[:count] for count in range(1, 5)})
        merge, rows = Merge(), []
        for count, layer in enumerate(layers, 1):
            table = listing([layer]).table.to_pylist()
            rows += table
            merge.lay([(row["name"], row["kind"], row["target"]) for row in table])
            theirs = unpacked(tmp_path / f"{seed}", f"p{count}", tmp_path / f"{seed}-{count}")
            if theirs is None:  # umoci refuses what lies below a file, and links to nowhere
                break
            assert shown(merge, rows) == theirs, f"seed {seed}, {count} layers"
            compared += 1
    assert compared > 40


def lay(*layers: list[tuple[bytes, int, bytes]]) -> Merge:
    merge = Merge()
    for layer in layers:
        merge.lay(layer)
    return merge


def file(name: bytes) -> tuple[bytes, int, bytes]:
    return name, FILE, b""


def test_content_lives_as_long_as_a_name_leads_to_it() -> None:
    """A file is deleted, and its hard link of another layer is not: the bytes are not hidden until that goes, too."""
    merge = lay([file(b"a")], [(b"b", ord("1"), b"a")], [file(b".wh.a")])
    assert list(merge.done().alive) == [1, 0, 0]
    assert list(merge.done().shown) == [0, 1, 0]
    merge.lay([file(b".wh.b")])
    assert not any(merge.done().alive)


def test_an_opaque_folder_spares_its_own_layer() -> None:
    """The whiteout takes what lower layers put there, whether it stands before or after what its own layer puts."""
    for order in (slice(None), slice(None, None, -1)):
        upper = [file(b"d/new"), file(b"d/.wh..wh..opq")][order]
        merge = lay([file(b"d/old"), file(b"d/sub/old")], upper)
        assert set(merge.done().files) == {b"d", b"d/new"}


def test_the_last_of_equal_names_wins() -> None:
    """The same path twice in one layer: the first one's bytes are hidden."""
    merge = lay([file(b"a"), file(b"./a")])
    assert list(merge.done().alive) == [0, 1]
    assert merge.content(b"/a") == 1


def test_nothing_leads_out_of_the_root() -> None:
    """Absolute names, ``..`` in names and in links, and links in a circle end within the image."""
    up = (b"up", ord("2"), b"../../../etc")
    circle = [(b"x", ord("2"), b"y"), (b"y", ord("2"), b"x")]
    merge = lay([file(b"/etc/passwd"), file(b"../../etc/group"), up, *circle, file(b"x/file"), file(b"up/shadow")])
    assert {b"etc/passwd", b"etc/group", b"etc/shadow"} <= set(merge.done().files)
    assert merge.content(b"up/passwd") == 0
    assert not any(b".." in path for path in merge.done().files)


@pytest.mark.parametrize(
    "entries",
    [
        [file(f"{number}/".encode() + b"a/" * 2000 + b"f") for number in range(9)],
        [(b"l", ord("2"), b"a/" * 2000), *(file(f"l/{number}".encode()) for number in range(5000))],
        [(b"l", ord("2"), b"a/../" * 2000), *(file(f"l/{number}/f".encode()) for number in range(5000))],
        [*(file(f"d/{number}".encode()) for number in range(300)), *[file(b"d/.wh..wh..opq")] * 9000],
    ],
    ids=["deep names", "long links", "links back and forth", "whiteouts again and again"],
)
def test_paths_that_claim_too_much_are_refused(
    entries: list[tuple[bytes, int, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few names that lead to any number of folders, or to any length of paths, are bounded; two of them are laid."""
    monkeypatch.setattr(merging, "TREE_LIMIT", 12 * 2**20)
    monkeypatch.setattr(merging, "STEPS_LIMIT", 2_000_000)
    with pytest.raises(TooLarge, match="longer, or lead through more folders, than those of any image"):
        lay(entries)
    assert len(lay(entries[:2]).done().alive) == 2


@pytest.mark.parametrize("target", [b"nowhere", b"/", b"", b"self"])
def test_a_hard_link_to_nowhere_has_no_content(target: bytes) -> None:
    """It is listed under its name, and nothing ends."""
    merge = lay([(b"self", ord("1"), target)])
    assert list(merge.done().files) == [b"self"]
