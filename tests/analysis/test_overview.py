"""What an audit prints of records, against the frames that are made of the same records."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from images import Image, config, image, index, layer
from stored import Stored

from regnb.analysis.inventory import Inventory
from regnb.analysis.overview import Overview, overview
from regnb.crawl.records import Records
from regnb.tables.frame import joined
from regnb.tables.listing import Joined

LAYERS = [layer(number, 50 + number) for number in range(6)]
NAMES = ("a/one", "a/two", "b", "c")


def content(chance: random.Random) -> Stored:
    """Images and indexes that share layers and tags, some of which are broken or gone, and one name for a signature."""
    days = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(4)]
    images = [
        image(chance.sample(LAYERS, chance.randint(1, 4)), about=config(created=chance.choice(days).isoformat()))
        for _ in range(5)
    ]
    indexes = [index([(one, "") for one in chance.sample(images, 2)]) for _ in range(2)]
    pushed: list[tuple[str, str, Image]] = [
        (name, f"tag{number}", chance.choice([*images, *indexes]))
        for name in NAMES
        for number in range(chance.randint(1, 30))
    ]
    stored = Stored(*pushed, ("b", images[0].digest.replace(":", "-") + ".sig", images[1]))
    places = [(name, tag) for name, tag, _ in pushed]
    stored.broken = set(chance.sample(places, chance.randint(0, 2)))
    stored.gone = set(chance.sample(places, chance.randint(0, 2)))
    return stored


def printed(found: Overview) -> list[object]:
    """Every table as it is printed, without what the API cannot tell, and the names of what cannot be pulled."""
    hidden = {"share", "untagged", "layer_links", "stale_links"}
    tables = [one for one in found if not isinstance(one, list)]
    return [*((one.drop(hidden).columns, one.drop(hidden).cells(whole=True)) for one in tables), found.broken]


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_what_is_printed_needs_no_frames(chance: random.Random) -> None:
    """The summary and every table are the same before and after the frames were made."""
    inventory = content(chance).inventory()
    before, sums, whole = overview(inventory), inventory.summary, (inventory.whole, repr(inventory))
    assert inventory.figures is not None
    again = Inventory(inventory.registry, inventory.started, inventory.finished, inventory.frames, inventory.source)
    assert inventory.figures is None
    after = overview(again)
    assert printed(before) == printed(after)
    assert (sums, whole) == (again.summary, (again.whole, repr(again)))


def test_nothing_was_read() -> None:
    """Of an empty registry every table but the coverage is empty."""
    found = overview(Inventory.of(Records("localhost:5000", datetime.now(UTC))))
    assert [len(one) for one in found] == [0, 0, 0, 0, 0, 6, 0]


def test_a_long_list_of_names_is_counted() -> None:
    """Names are joined one way for frames and for what is printed."""
    names, groups = [f"app-{number}" for number in range(60)], [1, 25, 0, 20, 14]
    ends = [sum(groups[: at + 1]) for at in range(len(groups))]
    found = Joined(names, ends)
    assert list(found) == joined(names, groups).to_list()
    assert found[1].endswith("app-20, … (5 more)")
    assert found[3:] == list(found)[3:]
