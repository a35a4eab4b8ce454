"""A history of pulls is joined with inventories, and what is not known of the use of a tag keeps it."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from images import config, image, index, layer
from stored import Stored
from typer.testing import CliRunner

from regnb.analysis.inventory import Inventory
from regnb.analysis.pulls import GAP, History, record
from regnb.change.policy import Policy
from regnb.change.retention import decide
from regnb.cli import app
from regnb.crawl.access import Pulls
from regnb.errors import InvalidArgument, StorageError

NOW = datetime.now(UTC).replace(microsecond=0)
OLD = config(created=(NOW - timedelta(days=900)).isoformat())
IMAGES = [image([layer(number, 100)], about=OLD) for number in range(4)]
BOTH = index([(IMAGES[0], "linux/amd64"), (IMAGES[1], "linux/arm64")])
NEW = image([layer(9, 100)], about=config(created=NOW.isoformat()))
POLICY = Policy.parse('[[rule]]\nrepositories = ["*"]\nkeep_pulled_within = "180d"\nremove_at_most = "100%"\n')


def days(count: float) -> datetime:
    return NOW - timedelta(days=count)


@pytest.fixture(scope="module")
def inventory() -> Inventory:
    """Tags that are 900 days old, and a new one."""
    return Stored(
        ("app", "multi", BOTH), ("app", "1.0", IMAGES[2]), ("app", "1.1", IMAGES[3]), ("app", "new", NEW)
    ).inventory()  # fmt: skip


def history(since: float, until: float, pulled: dict[tuple[str, str], float]) -> Pulls:
    found = Pulls(since=days(since), until=days(until))
    for (repository, reference), when in pulled.items():
        found.add(repository, reference, days(when))
    return found


def test_logs_become_one_history(tmp_path: Path) -> None:
    """The same log twice changes nothing, logs that meet are one time, and a gap between them is one."""
    path = tmp_path / "pulls.parquet"
    first = history(300, 200, {("app", "1.0"): 250})
    once = record(path, first)
    assert record(path, first) == once
    record(path, history(199.5, 100, {("app", "1.0"): 120, ("app", "1.1"): 110}))
    found = record(path, history(50, 0, {("app", "1.0"): 40}))
    assert found == History.load(path)
    assert found.last == {("app", "1.0"): days(40), ("app", "1.1"): days(110)}
    assert [(each.since, each.until) for each in found.periods] == [(days(300), days(100)), (days(50), days(0))]
    assert found.recorded_since(NOW) == days(50)
    assert found.recorded_since(NOW + 2 * GAP) is None
    assert pd.read_parquet(path)["repository"].to_list() == ["app", "app"]


def test_a_pull_counts_for_every_tag_that_leads_to_it(inventory: Inventory, tmp_path: Path) -> None:
    """By tag, by digest, and by the digest of an image that an index lists; the later one counts."""
    path = tmp_path / "pulls.parquet"
    pulls = {("app", str(IMAGES[1].digest)): 3.0, ("app", str(IMAGES[2].digest)): 7.0, ("app", "1.0"): 9.0}
    record(path, history(400, 0, {**pulls, ("other", "1.1"): 1.0}))
    tags = inventory.with_pulls(path).tags.set_index("tag")
    assert tags["pulled"].dropna().to_dict() == {"multi": days(3), "1.0": days(7)}
    assert (tags["pulls_since"] == days(400)).all()


@pytest.mark.parametrize(
    ("since", "until", "reason"),
    [
        (400, 0, ""),
        (100, 0, "pulls are recorded only since "),
        (400, 30, "its pulls are not recorded"),
        (None, 0, "its pulls are not recorded"),
    ],
)
def test_what_is_not_known_keeps_a_tag(
    inventory: Inventory, tmp_path: Path, since: float | None, until: float, reason: str
) -> None:
    """A tag goes only where every pull of the whole time is recorded up to now, and it was there all the time."""
    path = tmp_path / "pulls.parquet"
    if since is not None:
        record(path, history(since, until, {("app", "1.0"): 31.0, ("app", "1.1"): 399.0}))
    joined = inventory.with_pulls(path) if since is not None else inventory
    verdicts = {row.tag: row for row in decide(joined, POLICY, now=NOW)}
    gone = {tag for tag, row in verdicts.items() if not row.keep}
    assert gone == ({"1.1", "multi"} if not reason else set())
    assert verdicts["1.1"].reason.startswith(f"kept: {reason}" if reason else "deleted: not pulled for 180d")
    if since is not None:
        assert verdicts["1.0"].reason == f"kept: pulled on {days(31):%Y-%m-%d}"
    if not reason:
        assert verdicts["new"].reason.startswith("kept: made or pushed on ")
    freed = joined.free("1GB", keep=0, unused_for="180d")
    assert set(freed["tag"]) == gone


def test_what_is_no_history_is_told(inventory: Inventory, tmp_path: Path) -> None:
    """A missing file, another Parquet file, and a time that is none are errors that say what to do."""
    other = tmp_path / "other.parquet"
    pd.DataFrame({"a": [1]}).to_parquet(other)
    text = tmp_path / "text"
    text.write_text("hello")
    for path in (tmp_path / "absent", other, text):
        with pytest.raises(StorageError, match=path.name) as error:
            inventory.with_pulls(path)
        assert "regnb pulls" in error.value.hint
    with pytest.raises(InvalidArgument, match="is not a valid age"):
        inventory.free("1GB", unused_for="soon")
    with pytest.raises(InvalidArgument, match="keep_pulled_within is a number"):
        Policy.parse('[[rule]]\nrepositories = ["*"]\nkeep_pulled_within = "soon"\n')


def test_snapshots_keep_it(inventory: Inventory, tmp_path: Path) -> None:
    """The new columns are saved, and a snapshot of before, which lacks them, is loaded with nothing known."""
    path = tmp_path / "pulls.parquet"
    record(path, history(400, 0, {("app", "1.0"): 31.0}))
    joined = inventory.with_pulls(path)
    loaded = Inventory.load(joined.save(tmp_path / "snapshots"))
    for name in ("pulled", "pulls_since", "locked"):
        assert loaded.tags[name].to_list() == joined.tags[name].to_list() or loaded.tags[name].isna().any()
    assert loaded.coverage["source"].to_list() == joined.coverage["source"].to_list()
    shutil.rmtree(tmp_path / "snapshots")


def test_the_command_records_logs(tmp_path: Path) -> None:
    """`regnb pulls` prints what a log covers, records it, and ends with 4 where a log is none; one may be empty."""
    log, none, path = tmp_path / "access.log", tmp_path / "none.log", tmp_path / "pulls.parquet"
    stamp = f"{days(1):%d/%b/%Y:%H:%M:%S} +0000"
    log.write_text(f'10.0.0.1 - - [{stamp}] "GET /v2/app/manifests/1.0 HTTP/1.1" 200 418 "-" "docker"\nhello\n')
    none.write_text("hello\n")
    done = CliRunner().invoke(app, ["pulls", str(log), "--history", str(path)])
    assert done.exit_code == 0, done.output
    assert "last pulls of 1 tag or digest; 1 of 2 lines are not in a known format" in " ".join(done.output.split())
    assert History.load(path).last == {("app", "1.0"): days(1)}
    assert CliRunner().invoke(app, ["pulls", str(none), "--history", str(path)]).exit_code == 4
    none.write_text("")
    done = CliRunner().invoke(app, ["pulls", str(none), str(log), "--history", str(path)])
    assert done.exit_code == 0, "as after a rotation"
