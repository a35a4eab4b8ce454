"""What people have in hand leads to tags: names, references with any host, digests of whatever stands behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from images import Image, config, descriptor, image, index, layer
from stored import Stored

import regnb
from regnb.errors import InvalidArgument

BASE, TOP = layer("base", 3000), layer(1, 200)
ONE = image([BASE, TOP])
ARM = image([BASE, layer(2, 100)])
MULTI = index([(ONE, "linux/amd64"), (ARM, "linux/arm64")])
OTHER = image([layer(3, 100)])
STORED = Stored(
    ("vm/centos8", "8.4", ONE), ("vm/centos8", "latest", ONE), ("vm/multi", "1", MULTI), ("apps/web", "1", OTHER),
    ("a.b/web", "1", OTHER),
)  # fmt: skip
INVENTORY = STORED.inventory()
CONFIG = ONE.blobs[0]


def found(text: str) -> list[tuple[str, str]]:
    rows = INVENTORY.find(text)
    return [(f"{row.repository}:{row.tag}", row.match) for row in rows.itertuples()]


@pytest.mark.parametrize(
    "text",
    [
        "vm/centos8:8.4", "stored:5000/vm/centos8:8.4", "registry.k3s:5000/vm/centos8:8.4", "localhost/vm/centos8:8.4",
        "https://r.lab3.cn/vm/centos8:8.4", " docker pull r.example/vm/centos8:8.4 ",
    ],
)  # fmt: skip
def test_a_reference_whatever_its_host(text: str) -> None:
    """A reference is found as a shell, a pod or a browser has it."""
    assert found(text) == [("vm/centos8:8.4", "name")]


def test_names_and_parts_of_them() -> None:
    """A repository gives its tags, a part of a name what holds it; a repository may look like a host."""
    assert found("vm/centos8") == [("vm/centos8:8.4", "name"), ("vm/centos8:latest", "name")]
    assert found("centos8:lat") == [("vm/centos8:latest", "part of the name")]
    assert ("a.b/web:1", "name") in found("a.b/web:1")
    assert found("nothing-of-this") == []


@pytest.mark.parametrize(
    "shorten", [lambda text: text, lambda text: text[7:], lambda text: text[:19], lambda text: text[7:19]]
)
def test_digests_whole_and_short(shorten: object) -> None:
    """Of a manifest, a child, a config and a layer, with and without its algorithm, whole and in part."""
    assert callable(shorten)
    both = [("vm/centos8:8.4", "digest"), ("vm/centos8:latest", "digest")]
    assert found(shorten(str(ONE.digest))) == [*both, ("vm/multi:1", f"digest of {ONE.digest[:19]}")]
    assert found(shorten(str(MULTI.digest))) == [("vm/multi:1", "digest")]
    top = str(descriptor("", TOP)["digest"])
    assert [match for _, match in found(shorten(top))] == ["layer 1", "layer 1", f"layer 1 of {ONE.digest[:19]}"]
    assert ("vm/centos8:8.4", "config") in found(shorten(str(descriptor("", CONFIG)["digest"])))


def test_a_reference_with_a_digest_is_of_one_repository() -> None:
    """The same image elsewhere is not what was named."""
    assert found(f"vm/multi@{ONE.digest}") == [("vm/multi:1", f"digest of {ONE.digest[:19]}")]
    assert found(f"r.example:5000/a.b/web:1@{OTHER.digest}") == [("a.b/web:1", "digest")]


def test_a_row_can_be_pulled_and_planned() -> None:
    """The digest is whole, in the line that pulls it; an empty text is an error."""
    rows = INVENTORY.find("apps/web:1")
    assert rows["pull"].to_list() == [f"docker pull stored:5000/apps/web@{OTHER.digest}"]
    assert INVENTORY.find(str(OTHER.digest))["repository"].to_list() == ["a.b/web", "apps/web"]
    with pytest.raises(InvalidArgument):
        INVENTORY.find("  ")


def _labelled(seed: int, **labels: str) -> Image:
    return image(
        [layer(seed, 50)], about=config(config={"Labels": {key.replace("_", "."): labels[key] for key in labels}})
    )


APP = _labelled(7, org_source="https://git.example/app", team="blue")
TOOL = _labelled(8, org_source="https://git.example/tool", team="red", text=f"{'x' * 300}")
LABELLED = Stored(
    ("app", "1", APP), ("tools", "2", index([(TOOL, "linux/amd64")])), ("apps/web", "1", OTHER)
).inventory()


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("org.source=https://git.example/app", ["app"]),
        ("label:org.source=https://git.example/tool", ["tools"]),
        ("org.source=git.example", ["app", "tools"]),
        ("label:team", ["app", "tools"]),
        ("team=blue", ["app"]),
        ("label:source", []),
        ("team=", []),
        (f"text={'x' * 300}", ["tools"]),
    ],
)
def test_a_label_leads_to_its_tags(text: str, tags: list[str], tmp_path: Path) -> None:
    """A name alone, a whole value and a part of one; an index by its children; the same from a snapshot."""
    kept = regnb.read(LABELLED.save(tmp_path))
    for inventory in (LABELLED, kept):
        rows = inventory.find(text)
        assert rows["repository"].to_list() == tags
        assert rows["match"].str.startswith("label ").all()


def test_an_older_snapshot_has_no_labels(tmp_path: Path) -> None:
    """It loads without the file, names are found, and a label leads nowhere."""
    folder = Path(LABELLED.save(tmp_path))
    header = json.loads((folder / "snapshot.json").read_text(encoding="utf-8"))
    del header["files"]["labels"]
    (folder / "snapshot.json").write_text(json.dumps(header), encoding="utf-8")
    (folder / "labels.parquet").unlink()
    old = regnb.read(str(folder))
    assert old.find("team=blue").empty
    assert len(old.find("app:1")) == 1
