"""The base of an image is the longest chain of its layers that is itself tagged."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from distribution import Distribution
from images import Image, config, fill, image, index, pack
from stored import Stored

from regnb.analysis.bases import bases, of_image, stale
from regnb.analysis.inventory import Inventory
from regnb.crawl.records import Records
from regnb.oci.reference import Digest
from regnb.registry import connect
from regnb.source import known_bases
from regnb.storage import open_storage
from regnb.tables.build import tabulate
from regnb.tables.frame import Frame


def test_the_longest_tagged_chain_is_the_base(real: Distribution) -> None:
    """A base of a base, siblings, a base that only an index names, a platform's own, and an image on nothing."""
    a, b, c, d, x = (bytes([each]) * 100 for each in b"abcdx")
    base, middle, app = image([a]), image([a, b]), image([a, b, c], about=config(created="2026-02-02T00:00:00Z"))
    twin = image([a, b, c], about=config(created="2026-03-03T00:00:00Z"))
    arm = image([x], about=config("arm64"))
    many = index([(image([d]), "linux/amd64"), (arm, "linux/arm64")])
    on_arm = image([x, a], about=config("arm64"))
    fill(
        real.url, ("base", "12", base), ("base", "middle", middle), ("app", "1", app), ("app", "2", twin),
        ("many", "1", many), ("app", "arm", on_arm), ("app", "alone", image([b, a])), ("app", "empty", image([])),
        ("copy", "12", base),
    )  # fmt: skip
    with connect(real.url) as registry:
        found = registry.inventory().bases.set_index("digest")
    told = {
        name: tuple(found.loc[str(each.digest), ["base", "base_layers", "base_size", "siblings", "how"]])
        for name, each in {"middle": middle, "app": app, "twin": twin, "on_arm": on_arm}.items()
    }
    assert told == {
        "middle": ("base:12", 1, 100, 0, "layers"),
        "app": ("base:middle", 2, 200, 1, "layers"),
        "twin": ("base:middle", 2, 200, 1, "layers"),
        "on_arm": ("many:1", 1, 100, 0, "layers"),
    }
    assert found.loc[str(on_arm.digest), "base_digest"] == str(arm.digest)
    alone = found[found["how"] == "unknown"]
    assert len(alone) == 5
    assert alone["base"].isna().all()
    assert len(found) == 9


def test_nothing_is_built_on_nothing() -> None:
    """An inventory without images gives no rows."""
    assert Inventory.of(Records("r", datetime.now(UTC))).bases.empty


def test_many_images_agree_with_the_plain_way() -> None:
    """Random chains: each image's base is what comparing it with every other one gives."""
    kinds = np.random.default_rng(1)
    chains = [tuple(kinds.integers(0, 3, kinds.integers(1, 6)).tolist()) for _ in range(300)]
    digests = [f"sha256:{number:064x}" for number in range(len(chains))]
    tags = Frame(
        {"repository": "r", "tag": [f"t{n}" for n in range(0, 300, 2)], "digest": digests[::2], "subject": None}
    )
    manifests = Frame(
        {"repository": "r", "digest": digests, "kind": "image", "platform": "", "layers": [*map(len, chains)]}
    )
    rows = [
        (digest, at, f"l{each}", 10 + each)
        for digest, chain in zip(digests, chains, strict=True)
        for at, each in enumerate(chain)
    ]
    layers = Frame(rows, columns=["manifest", "position", "digest", "size"]).astype(
        {"manifest": "category", "digest": "category"}
    )
    empty = tabulate(Records("r", datetime.now(UTC)))
    manifests[["base_name", "base_digest"]] = None
    frames = {**empty, "tags": tags, "manifests": manifests, "layers": layers}
    found = bases(frames).set_index("digest")
    tagged = set(chains[::2])
    for digest, chain in zip(digests, chains, strict=True):
        expected = max((length for length in range(1, len(chain)) if chain[:length] in tagged), default=0)
        row = found.loc[digest]
        assert row["siblings"] == chains.count(chain) - 1
        if not expected:
            assert row[["base_layers", "base_size"]].isna().all()  # what is not known is no zero
            continue
        assert row["base_layers"] == expected
        assert row["base_size"] == sum(10 + each for each in chain[:expected])
        assert chains[digests.index(row["base_digest"])] == chain[:expected]


def built(layers: str, diff_ids: str = "", packed: str = "", **more: object) -> Image:
    """An image of layers named by letters; ``packed`` tells their compressed bytes apart."""
    found = {"type": "layers", "diff_ids": [Digest.of(each.encode()) for each in diff_ids or layers]}
    about = config(commands=["step"] * len(layers), rootfs=found, created=f"2026-01-{len(layers):02}T00:00:00Z")
    return image([f"{each}{packed}".encode() * 50 for each in layers], about=about, **more)


def told(found: Frame, which: Image, *columns: str) -> list[object]:
    row = found.set_index("digest").loc[str(which.digest), list(columns)]
    return [None if pd.isna(each) else each for each in row]


def test_layers_that_were_compressed_anew_are_the_same() -> None:
    """Bases are compared by their layers' archives, on which configs that contradict each other have no say."""
    app, twin, other = built("abc", packed="!"), built("abc", packed="?"), built("abx", "aby")
    stored = Stored(
        ("base", "1", built("ab")), ("app", "1", app), ("app", "2", twin), ("lies", "1", other),
        ("lies", "2", built("xz")),
    )  # fmt: skip
    found = stored.inventory().bases
    assert told(found, app, "base", "base_layers", "base_size", "siblings", "how") == ["base:1", 2, 200, 1, "diff_ids"]
    # Of its last layer two configs say different things; that of the base is not in doubt.
    assert told(found, other, "base", "how", "siblings") == ["base:1", "diff_ids", 0]
    doubtful = Stored(("base", "1", built("ab")), ("app", "1", built("abc", "xyz"))).inventory().bases
    assert doubtful["how"].tolist() == ["layers", "unknown"]


def test_whether_the_base_has_moved_on(tmp_path: Path) -> None:
    """By version tags, by the tag itself, by earlier inventories, and by what an annotation names; else not known."""
    notes = {"org.opencontainers.image.base.name": "host/base:12", "org.opencontainers.image.base.digest": ""}
    old, new, third = built("a"), built("b"), built("c")
    on_old, on_new, alone = built("ax"), built("bx"), built("zy")
    digest = {"org.opencontainers.image.base.digest": str(old.digest)}
    noted = image([b"flat"], about=config(), annotations={**notes, **digest})
    empty = built("yz", annotations=dict.fromkeys(notes, ""))
    many = index([(built("qr"), "linux/amd64")], annotations={**notes, **digest})
    plain = index([(built("pq"), "linux/amd64")])
    entry = {**json.loads(plain.data)["manifests"][0], "annotations": {**notes, **digest}}
    listed = replace(plain, data=pack({**json.loads(plain.data), "manifests": [entry]}))
    apps = (("app", "1", on_old), ("app", "2", on_new), ("app", "3", alone), ("app", "4", noted), ("app", "5", empty),
            ("app", "6", many), ("app", "7", listed))  # fmt: skip
    before = Stored(("base", "12", old), *apps).inventory()
    now = Stored(("base", "12", new), ("base", "x-1.0", third), *apps).inventory()
    assert told(now.bases, on_old, "base", "how", "moved", "behind") == [None, "unknown", None, None]
    found = now.find_bases(earlier=[before])
    columns = ("base", "moved", "behind", "told_by")
    assert told(found, on_old, *columns) == ["base:12", True, 1, "earlier snapshots"]
    assert told(found, on_new, *columns) == ["base:12", False, 0, "tag"]
    assert told(found, alone, *columns) == [None, None, None, "not known"]
    assert told(found, noted, *columns, "annotated_name") == [None, True, None, "annotation", "host/base:12"]
    assert told(found, empty, "told_by", "annotated_name") == ["not known", None]
    assert told(found, many.children[0], "told_by", "annotated_name") == ["annotation", "host/base:12"]
    assert told(found, listed.children[0], "told_by", "annotated_name") == ["annotation", "host/base:12"]
    series = Stored(
        ("base", "12.1", old), ("base", "12.2", new), ("base", "12.10", third), ("base", "latest", third), *apps
    ).inventory()
    assert told(series.bases, on_old, *columns) == ["base:12.1", True, 2, "version tags"]
    words = {each: of_image(series.bases, "app", str(each.digest)) for each in (on_old, on_new, noted, alone)}
    assert words == {
        on_old: "base:12.1, 2 releases behind",
        on_new: "base:12.2, 1 release behind",
        noted: "host/base:12 (its annotation says so)",
        alone: "not known: no other tagged image here has its first layers",
    }
    assert of_image(found, "app", str(on_new.digest)) == "base:12, the newest release"
    assert stale(series.bases) == (
        "1 image stands on a base that is 1 release behind; rebuilt on the newest one it would share at most 50 B.",
        "1 image stands on a base that is 2 releases behind; rebuilt on the newest one it would share at most 50 B.",
    )
    assert told(Inventory.load(series.save(tmp_path)).bases, on_old, *columns) == ["base:12.1", True, 2, "version tags"]


def test_a_storage_tells_the_history_of_a_base(real: Distribution) -> None:
    """The tag points elsewhere by now: its history names the base, and how often it has moved on."""
    old = built("a")
    app = built("ax")
    fill(real.url, ("base", "12", old), ("app", "1", app), ("base", "12", built("b")), ("base", "12", built("c")))
    found = open_storage(real.root).inventory().bases
    assert told(found, app, "base", "base_digest", "moved", "behind", "told_by") == [
        "base:12", str(old.digest), True, 2, "tag history",
    ]  # fmt: skip


def test_a_list_of_known_bases(real: Distribution) -> None:
    """Images that are not in the inventory, for several platforms, are bases if they are named."""
    base, arm = built("ab"), built("cd")
    many = index([(base, "linux/amd64"), (arm, "linux/arm64")])
    fill(real.url, ("library/debian", "12", many))
    app, other = built("abx"), built("cdx")
    inventory = Stored(("app", "1", app), ("app", "2", other)).inventory()
    known = known_bases([f"{real.host}/library/debian:12"], connect=lambda _: connect(real.url))
    found = inventory.find_bases(known)
    name = f"{real.host}/library/debian:12"
    assert told(found, app, "base", "base_digest", "how") == [name, str(base.digest), "diff_ids"]
    assert told(found, other, "base", "base_digest", "told_by") == [name, str(arm.digest), "not known"]
