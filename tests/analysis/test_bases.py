"""The base of an image is the longest chain of its layers that is itself tagged."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from distribution import Distribution
from images import config, fill, image, index

from regnb.analysis.bases import bases
from regnb.analysis.inventory import Inventory
from regnb.crawl.records import Records
from regnb.registry import connect
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
        assert row["base_layers"] == expected
        assert row["base_size"] == sum(10 + each for each in chain[:expected])
        assert row["siblings"] == chains.count(chain) - 1
        if expected:
            assert chains[digests.index(row["base_digest"])] == chain[:expected]
