"""The age of an image: which dates say something, in every table, proposal and snapshot alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from conftest import Seeded
from hypothesis import given
from hypothesis import strategies as st
from images import Image, config, image, layer
from stored import Stored

from regnb import Inventory, open_storage
from regnb.oci.age import FIRST, SKEW, known, made
from regnb.tables.age import ages

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def dated(created: str, number: int = 0) -> Image:
    return image([layer(number, 1000)], about=config(created=created), annotations={"n": str(number)})


@given(st.text() | st.datetimes().map(datetime.isoformat) | st.from_regex(r"\d{1,5}-\d\d-\d\dT\d\d:\d\d:\d\d.{0,12}"))
def test_no_text_breaks_a_date(text: str) -> None:
    """Whatever a config says, it is a date that an image can have, in UTC, or none."""
    found = known(text, NOW)
    assert found is None or (FIRST <= found <= NOW + SKEW and found.utcoffset() == timedelta())


DATES = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(lambda day: f"{day.isoformat()}Z")  # noqa: DTZ001 -- Z


@given(DATES, st.lists(DATES, max_size=4))
def test_an_image_is_as_young_as_its_history(created: str, history: list[str]) -> None:
    """A known age is never older than any date that is believed, and never one that nobody wrote."""
    found = made(created, history, NOW)
    believed = [date for text in (created, *history) if (date := known(text, NOW))]
    assert found is None or found == max(believed)
    assert found is None or known(created, NOW)


@pytest.mark.parametrize(
    "created", ["1970-01-01T00:00:00Z", "1980-01-01T00:00:01Z", "0001-01-01T00:00:00Z", "2999-01-01"]
)
def test_a_placeholder_is_no_date_anywhere(created: str, tmp_path: Path) -> None:
    """Tables, filters and proposals have no date for it; nor has a snapshot that an earlier regnb saved with one."""
    stored = Stored(
        ("app", "1", dated(created)), ("app", "2", dated("2024-01-01T00:00:00Z", 1)), ("lib", "1", dated(created))
    )
    inventory = stored.inventory()
    assert inventory.tags["created"].notna().tolist() == [False, True, False]
    assert inventory.tags["dated"].tolist() == ["", "config", ""]
    assert not (inventory.tags["created"] < "2020").any()
    assert inventory.repositories["newest"].notna().tolist() == [True, False]
    assert inventory.free("1MB", keep=0)["tag"].tolist() == ["2"]
    old = pd.to_datetime(pd.Series([created, "2024-01-01", created]), utc=True, format="ISO8601").astype(
        "datetime64[us, UTC]"
    )
    tags = inventory.tags.assign(created=old)
    written = Inventory(inventory.registry, inventory.started, inventory.finished, {**inventory.frames, "tags": tags})
    assert Inventory.load(written.save(tmp_path)).tags["created"].notna().tolist() == [False, True, False]


def test_of_the_same_age_all_stay() -> None:
    """``keep`` of a proposal never chooses among images of the same age by the text of their tags."""
    same = [("app", f"build-{number}", dated("2024-01-01T00:00:00Z", number)) for number in (9, 10, 11)]
    inventory = Stored(*same, ("app", "old", dated("2023-01-01T00:00:00Z", 1))).inventory()
    assert inventory.free("1MB", keep=1)["tag"].tolist() == ["old"]


def test_the_push_date_of_a_storage(seeded: Seeded) -> None:
    """It is when the tag's link was written; it stands in for an age that is unknown, and for no other."""
    found = open_storage(seeded.root).inventory().tags
    for row in found[["repository", "tag", "pushed"]].itertuples():
        link = f"docker/registry/v2/repositories/{row.repository}/_manifests/tags/{row.tag}/current/link"
        assert abs(row.pushed.timestamp() - (seeded.root / link).stat().st_mtime) < 1
    assert (ages(found)["age"] == found["created"])[found["created"].notna()].all()
    undated = ages(found.assign(created=found["created"].where(found["created"].isna())))
    read = found["digest"].notna()
    assert (undated["dated"] == "pushed").equals(read)
    assert (undated["age"][read] >= found["pushed"][read]).all()
