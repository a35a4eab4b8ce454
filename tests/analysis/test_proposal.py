"""Which tags are proposed first: by the order that was chosen, base images and trifles last."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from images import Image, config, image, index, layer, pack
from stored import Stored
from trial import Stock

import regnb
from regnb.errors import InvalidArgument

LARGE, MIDDLE, SMALL = layer("large", 9000), layer("middle", 5000), layer("small", 20)


def made(month: int, *layers: bytes) -> Image:
    return image(list(layers), about=config("amd64", f"2026-{month:02}-01T00:00:00Z", ["RUN a"] * len(layers)))


STORED = Stored(
    ("app", "small", made(1, SMALL)), ("app", "middle", made(2, MIDDLE)), ("app", "large-1", made(3, LARGE)),
    ("app", "large-2", made(3, LARGE)), ("app", "new", made(11, layer("new", 10))),
    ("idle", "a", made(4, layer("idle", 400))), ("idle", "b", made(5, layer("idle b", 10))),
)  # fmt: skip
INVENTORY = STORED.inventory()


@pytest.mark.parametrize(
    ("order", "goal", "first"),
    [
        ("oldest", 4000, ["middle"]), ("largest-gain", 4000, ["large-1", "large-2"]), ("fewest-tags", 4000, ["middle"]),
        ("oldest", 100, ["small"]), ("unused", 100, ["a"]),
    ],
)  # fmt: skip
def test_what_goes_first(order: str, goal: int, first: list[str]) -> None:
    """The goal is met by old, by large, by few, or by abandoned images."""
    found = INVENTORY.free(goal, order=order)
    assert found["tag"].to_list() == first
    assert found["total"].iloc[-1] >= goal


def test_an_order_that_there_is_not() -> None:
    """The error lists those that there are."""
    with pytest.raises(InvalidArgument, match="largest-gain"):
        INVENTORY.free(1, order="best")


def test_a_trifle_goes_only_where_it_must() -> None:
    """The oldest tag frees a hundredth of the others: it is proposed only if they do not suffice."""
    trifle, much = made(1, layer("t", 1)), [made(2 + n, layer(f"m{n}", 90_000)) for n in range(2)]
    inventory = Stored(
        ("a", "trifle", trifle), ("a", "one", much[0]), ("a", "two", much[1]), ("a", "new", made(11, SMALL))
    ).inventory()
    assert inventory.free(100_000)["tag"].to_list() == ["one", "two"]
    assert inventory.free(10**6)["tag"].to_list() == ["one", "two", "trifle"]


@pytest.mark.parametrize("listed", [False, True], ids=["alone", "in an index"])
def test_a_base_image_comes_last(listed: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    """What other images are built on goes after them, in any order, also where an index lists it."""
    base, built = made(1, LARGE, MIDDLE), made(2, LARGE, MIDDLE, layer("top", 3000))
    other = made(3, MIDDLE, LARGE, layer("other", 1000))
    inventory = Stored(
        ("base", "1", index([(base, "linux/amd64")]) if listed else base), ("base", "2", made(11, SMALL)),
        ("app", "1", built), ("app", "3", other), ("app", "2", made(11, layer("new", 5))),
    ).inventory()  # fmt: skip
    for order in ("oldest", "largest-gain", "fewest-tags", "unused"):
        assert inventory.free(10**6, order=order)["repository"].iloc[-1] == "base"


def test_what_a_collection_does_not_see_keeps_nothing(tmp_path: Path) -> None:
    """Version 2.8 removes a layer that is only needed by its sha512: the image that names it so need not go for it."""
    named, other = made(1, LARGE), made(2, layer("more", 3000), LARGE)
    document = json.loads(other.data)
    document["layers"][1]["digest"] = alias = f"sha512:{hashlib.sha512(LARGE).hexdigest()}"
    stock = Stock(tmp_path)
    stock.put("app", named, "1")
    stock.put("app", made(3, MIDDLE), "3")
    stock.put("app", Image(pack(document), other.media_type, other.blobs), "2")
    stock.link("app", f"_layers/{alias.replace(':', '/')}", stock.blob(LARGE))
    found = regnb.open_storage(tmp_path).inventory().free(len(LARGE), keep=0)
    assert found["tag"].to_list() == ["1"]
    assert found["total"].iloc[-1] >= len(LARGE)


def test_a_repository_that_a_collection_does_not_see(tmp_path: Path) -> None:
    """Version 2.8 sees no repository without layers: its index frees nothing, and holds no image back elsewhere."""
    stock = Stock(tmp_path / "storage")
    held = made(1, LARGE)
    stock.put("app", held, "1")
    stock.put("bare", Image(index([(held, "linux/amd64")]).data, index([]).media_type), "1")
    inventory = regnb.open_storage(tmp_path / "storage").inventory()
    found = inventory.free("1GB", keep=0)
    assert found["repository"].to_list() == ["app"]
    assert found["total"].to_list() == [inventory.reclaim(found).size] == [held.size]
    assert inventory.reclaim("bare:1").size == 0
    inventory.save(tmp_path / "saved")
    assert regnb.free("1GB", tmp_path / "saved", keep=0)["total"].to_list() == [held.size]
    assert regnb.reclaim("repository = 'bare'", tmp_path / "saved")["size"].to_list() == [0]
