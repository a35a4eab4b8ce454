"""Which tags are proposed first: by the order that was chosen, base images and trifles last."""

from __future__ import annotations

import pytest
from images import Image, config, image, index, layer
from stored import Stored

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
