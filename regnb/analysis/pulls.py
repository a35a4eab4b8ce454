"""When images were last pulled, as access logs and notifications tell: one Parquet file that inventories join."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import pandas as pd

from regnb.crawl.access import Pulls
from regnb.crawl.files import file_errors
from regnb.errors import StorageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regnb.analysis.inventory import Inventory
    from regnb.tables.frame import Frame

GAP: Final = timedelta(days=1)
"""How long nothing may be recorded between two logs, or before an inventory, so that they count as one time."""
_PERIODS: Final = b"regnb.periods"
_COLUMNS: Final = ("repository", "reference", "pulled")


class Period(msgspec.Struct, frozen=True, order=True):
    """A time in which every pull was recorded."""

    since: datetime
    until: datetime


@dataclass
class History:
    """The last pull of each tag and digest, and the times in which pulls were recorded.

    Attributes:
        last: Repository and tag or digest, to when it was last pulled.
        periods: In order, without overlaps.

    Example:
        >>> History().recorded_since(datetime.now(UTC)) is None
        True
    """

    last: dict[tuple[str, str], datetime] = field(default_factory=dict)
    periods: list[Period] = field(default_factory=list)

    def add(self, pulls: Pulls) -> None:
        """Take in what a log or notifications tell; the same log again changes nothing."""
        for key, when in pulls.last.items():
            self.last[key] = max(when, self.last.get(key, when))
        if pulls.period is not None:
            self.periods = _merged([*self.periods, Period(*pulls.period)])

    def recorded_since(self, now: datetime) -> datetime | None:
        """Return since when every pull up to now was recorded; None where the records ended before."""
        # A period that ends in the future comes of a clock, or a line, that is wrong.
        last = self.periods[-1] if self.periods else None
        return last.since if last is not None and abs(now - last.until) <= GAP else None

    @classmethod
    def load(cls, path: str | Path, *, must_exist: bool = False) -> History:
        """Load a history; an empty one where there is no such file, unless it must be there.

        Raises:
            StorageError: It cannot be read, or is none.
        """
        import pyarrow as pa  # a second of start
        import pyarrow.parquet as pq

        if not must_exist and not Path(path).exists():
            return cls()
        try:
            with file_errors(f"read {path}", "name the file that regnb pulls or regnb listen wrote"):
                Path(path).stat()  # what pyarrow says of a missing file is its name
                table = pq.read_table(path)
            periods = msgspec.json.decode((table.schema.metadata or {})[_PERIODS], type=list[Period])
            rows = zip(*(table[name].to_pylist() for name in _COLUMNS), strict=True)
            return cls({(name, reference): when.astimezone(UTC) for name, reference, when in rows}, periods)
        except (pa.ArrowException, msgspec.MsgspecError, KeyError, AttributeError) as error:
            raise StorageError(
                f"{path} is not a history of pulls: {str(error)[:200]}",
                hint="name the file that regnb pulls or regnb listen wrote",
            ) from None

    def save(self, path: str | Path) -> None:
        """Write it into a file, which is whole at every moment.

        Raises:
            StorageError: The file cannot be written.
        """
        import pyarrow as pa  # a second of start
        import pyarrow.parquet as pq

        keys = sorted(self.last)
        columns = {
            "repository": [name for name, _ in keys],
            "reference": [reference for _, reference in keys],
            "pulled": pa.array([self.last[key] for key in keys], pa.timestamp("us", "UTC")),
        }
        table = pa.table(columns).cast(
            pa.schema([("repository", pa.string()), ("reference", pa.string()), ("pulled", pa.timestamp("us", "UTC"))])
        )
        table = table.replace_schema_metadata({_PERIODS: msgspec.json.encode(self.periods)})
        with file_errors(f"write {path}", "name a file in a folder that can be written"):
            beside = Path(path).with_name(f".{Path(path).name}.{os.getpid()}")
            try:
                pq.write_table(table, beside, compression="zstd")
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)


def record(path: str | Path, pulls: Pulls) -> History:
    """Add what was pulled to the history in a file, which several processes may write to, and return it.

    Raises:
        StorageError: The file cannot be read or written, or is not a history.

    Example:
        >>> from regnb.crawl.access import log_lines, read_log
        >>> history = record("pulls.parquet", read_log(log_lines("access.log")))
        >>> int(with_pulls(inventory, history)["pulled"].notna().sum())
        1
    """
    from filelock import FileLock  # only where something is written

    with file_errors(f"write {path}", "name a file in a folder that can be written"):
        Path(path).absolute().parent.stat()  # a lock would make the folder
        with FileLock(f"{path}.lock"):
            history = History.load(path)
            history.add(pulls)
            history.save(path)
    return history


def with_pulls(inventory: Inventory, history: History) -> Frame:
    """Return an inventory's tags with when they were last pulled.

    A pull by digest counts for each tag that leads to the manifest: directly, or through an index that lists it.
    What the registry's own API told stays, where it is later.

    Example:
        >>> int(with_pulls(inventory, History.load("pulls.parquet"))["pulled"].notna().sum())
        1
    """
    tags, graph = inventory.tags, inventory.graph
    named = _times(history.last, tags["repository"], tags["tag"])
    rows = inventory.manifests
    behind = graph.reach
    own = _times(history.last, rows["repository"], rows["digest"])
    newest = np.maximum.reduceat(own[behind.target], behind.start[:-1]) if len(behind.target) else own
    by_digest = np.append(newest, _NEVER)[graph.tags]  # the last one stands for a tag that leads nowhere
    before = tags["pulled"].to_numpy(dtype="datetime64[us]")
    told = np.where(np.isnat(before), _NEVER, before.view(np.int64))
    last = np.maximum.reduce([named, by_digest, told])
    found = pd.Series(last.view("datetime64[us]"), index=tags.index).dt.tz_localize("UTC").where(last != _NEVER)
    since = tags["pulls_since"]
    if (start := history.recorded_since(inventory.started)) is not None:
        since = since.where(since < pd.Timestamp(start), pd.Timestamp(start)).astype(tags["pulls_since"].dtype)
    return tags.assign(pulled=found.astype(tags["pulled"].dtype), pulls_since=since)


_NEVER: Final = np.iinfo(np.int64).min
"""The missing date, which is the smallest number."""


def _times(
    last: Mapping[tuple[str, str], datetime], names: pd.Series[str], references: pd.Series[str]
) -> NDArray[np.int64]:
    keys = zip(names, references, strict=True)
    found = (last.get(key) for key in keys)
    stamps = (_NEVER if when is None else round(when.timestamp() * 1_000_000) for when in found)
    return np.fromiter(stamps, np.int64, len(names))


def _merged(periods: list[Period]) -> list[Period]:
    found: list[Period] = []
    for each in sorted(periods):
        if found and each.since - found[-1].until <= GAP:
            found[-1] = Period(found[-1].since, max(found[-1].until, each.until))
        else:
            found.append(each)
    return found
