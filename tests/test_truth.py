"""What a deletion gives back, predicted before it, is to the byte what the real garbage collection then removes.

Registries grow at random through docker-registry's API. Each round reads the storage, predicts, deletes tags as a user
does, and lets the real collection run over copies. A failure names its chain and round, which come again as they were.
``REGNB_TRUTH_ROUNDS=5000 pytest tests/test_truth.py`` plays more of them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import pandas as pd
import pytest
from collected import FLAGS, PLACE, Grown, agrees, collect, copied, stored
from test_collectors import judge

import regnb
from regnb import Inventory, Registry
from regnb.analysis.reclaim import Reclaim
from regnb.analysis.storage import open_storage

CHAIN = 25
"""Rounds on one storage."""
ROUNDS = int(os.environ.get("REGNB_TRUTH_ROUNDS", "200"))

MANIFEST = re.compile(r"manifest|image\.index")

Row = tuple[str, str]


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in memory where there is one: docker-registry syncs each file, and regnb each line of a receipt."""
    if not Path("/dev/shm").is_dir():  # noqa: S108 -- a folder of our own is made in it
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        monkeypatch.setenv("XDG_STATE_HOME", folder)
        yield Path(folder)


class Naive:
    """A storage as sets, read and collected in the plainest way.

    Attributes:
        size: Bytes of every blob on disk.
        rows: Repository and digest of each manifest.
        tags: Repository and tag, to the digest.
        needs: Manifest to what it needs, itself included.
        children: Manifest to what it lists.
        subject: Manifest to what it refers to, or "".
        seen: The repositories that the collector of version 2.8 sees.
    """

    def __init__(self, root: Path) -> None:
        repositories = root / "docker/registry/v2/repositories"
        self.size = stored(root)
        self.rows: set[Row] = set()
        self.tags: dict[Row, str] = {}
        self.needs: dict[str, set[str]] = {}
        self.children: dict[str, list[str]] = {}
        self.subject: dict[str, str] = {}
        self.seen = {folder.parent.relative_to(repositories).as_posix() for folder in repositories.rglob("_layers")}
        for folder in repositories.rglob("_manifests"):
            name = folder.parent.relative_to(repositories).as_posix()
            links = [link.read_text() for link in folder.glob("revisions/*/*/link")]
            self.rows |= {(name, digest) for digest in links if digest in self.size}
        for link in repositories.glob("**/_manifests/tags/*/current/link"):
            self.tags[link.parents[4].relative_to(repositories).as_posix(), link.parts[-3]] = link.read_text()
        for _, digest in self.rows:
            path = root / "docker/registry/v2/blobs/sha256" / digest[7:9] / digest[7:] / "data"
            document = json.loads(path.read_bytes())
            self.subject[digest] = document.get("subject", {}).get("digest", "")
            listed = document.get("manifests", [])
            self.children[digest] = [entry["digest"] for entry in listed if MANIFEST.search(entry["mediaType"])]
            own = [document["config"], *document["layers"]] if "config" in document else listed
            self.needs[digest] = {digest, *(entry["digest"] for entry in own)}

    def behind(self, row: Row) -> set[Row]:
        """The rows that a row leads to, itself included."""
        found, todo = set(), [row]
        while todo:
            if (row := todo.pop()) in self.rows and row not in found:
                found.add(row)
                todo += [(row[0], child) for child in self.children[row[1]]]
        return found

    def blobs(self, rows: set[Row]) -> set[str]:
        """What these need, of what is there."""
        return set().union(*(self.needs[digest] for _, digest in rows)) & set(self.size)

    def alone(self, name: str, tag: str, *, signatures: bool) -> set[Row]:
        """The rows that go with one tag: its manifest unless something holds it, and then so its children.

        What no tag leads to holds nothing, for nobody sees it over HTTP.

        Args:
            name: The repository.
            tag: In it.
            signatures: Whether a child stays that refers to a manifest that stays.
        """
        first = (name, self.tags[name, tag])
        others = {(other, digest) for (other, one), digest in self.tags.items() if (other, one) != (name, tag)}
        seen = set().union(*map(self.behind, {first, *others}))
        gone: set[Row] = set()
        wanted = {first} & self.rows
        while True:
            more = {
                row
                for row in wanted - gone - others
                if {one for one in seen if one[0] == name and row[1] in self.children[one[1]]} <= gone
                and (row == first or not signatures or (name, self.subject[row[1]]) not in seen - gone)
            }
            if not more:
                return gone
            gone |= more
            wanted |= {(name, child) for _, digest in more for child in self.children[digest]} & self.rows

    def total(self, blobs: set[str]) -> int:
        return sum(self.size[digest] for digest in blobs)


def figures(inventory: Inventory, naive: Naive, anyway: Collection[str]) -> None:
    """Every number of the frames, from sets and loops; a deletion does not free what is collected anyway."""
    tags = inventory.tags
    rows = {key: naive.behind((key[0], digest)) for key, digest in naive.tags.items()}
    for name, tag, size in zip(tags["repository"], tags["tag"], tags["size"], strict=True):
        assert size == naive.total(naive.blobs(rows[name, tag])), (name, tag)
    kept = naive.blobs(naive.rows)
    for name, tag, exclusive in zip(tags["repository"], tags["tag"], tags["exclusive"], strict=True):
        alone = [naive.rows - naive.alone(name, tag, signatures=signatures) for signatures in (False, True)]
        left = (alone[0], {row for row in alone[1] if row[0] in naive.seen})
        freed = [
            naive.total(kept - naive.blobs(rows) - set(gone)) for rows, gone in zip(left, ((), anyway), strict=True)
        ]
        assert [exclusive, inventory.reclaim(f"{name}:{tag}", referrers=False).size] == freed, (name, tag)
    assert tags["share"].sum() == naive.total(set().union(*map(naive.blobs, rows.values()))), "shares of tags"
    repositories = inventory.repositories.set_index("repository")
    need = {name: naive.blobs({row for row in naive.rows if row[0] == name}) for name in repositories.index}
    times = Counter(digest for blobs in need.values() for digest in blobs)
    for name, blobs in need.items():
        assert repositories.loc[name, "size"] == naive.total(blobs), name
        assert repositories.loc[name, "exclusive"] == naive.total({each for each in blobs if times[each] == 1}), name
        share = sum(naive.size[each] / times[each] for each in blobs)
        assert abs(repositories.loc[name, "share"] - share) <= len(repositories) * len(blobs) + 1, name
    assert repositories["share"].sum() == naive.total(kept), "shares of repositories"
    assert inventory.usage["size"].sum() == naive.total(kept), "usage"
    on_disk = inventory.blobs[~inventory.blobs["kind"].isin(["missing", "foreign layer"])]
    assert dict(zip(on_disk["digest"], on_disk["size"], strict=True)) == naive.size
    assert set(on_disk["digest"][on_disk["kind"] == "orphan"]) == set(naive.size) - kept


def play(grown: Grown, registry: Registry, folder: Path, steps: int) -> None:
    """One round."""
    chance = grown.random
    grown.grow(steps)
    before, naive = open_storage(grown.root).inventory(), Naive(grown.root)
    now = before.reclaim()
    judge(now, grown.root)
    real = {how: collect(grown.root, "--dry-run", *flags) for how, flags in FLAGS.items()}
    for how, found in real.items():
        agrees(now, how, found)
    figures(before, naive, real["plain_2"].blobs)

    seen = registry.inventory(cached=chance.random() < 0.5)
    named = seen.tags[seen.tags["digest"].notna()]
    wanted = [f"{name}:{tag}" for name, tag in zip(named["repository"], named["tag"], strict=True)]
    wanted = sorted(wanted)
    wanted = chance.sample(wanted, chance.randint(0, len(wanted)))
    take = {"children": chance.random() < 0.8, "referrers": chance.random() < 0.8}
    predicted, promised = before.reclaim(wanted, **take), seen.reclaim(wanted, **take)
    plan = registry.plan_delete(wanted, inventory=seen, allow=["dummy", "incomplete"], **take)
    receipt = registry.apply(plan, confirm=plan.digest, progress=False)
    done = receipt.to_frame()["status"].to_list()
    for step, status in zip(plan.steps, done, strict=True):
        # HTTP takes a child for present that the cache or another repository has: that it is gone is found out here.
        assert status in ("done", "skipped") or (step.repository, step.before) not in naive.rows, (step, status)
    left, then = stored(grown.root), open_storage(grown.root).inventory().reclaim()
    for how, flags in FLAGS.items():
        copy = copied(grown.root, folder / how)
        real = collect(copy, *flags)
        assert set(left) - set(stored(copy)) == set(real.blobs), how
        agrees(then, how, real)
        if set(done) <= {"done"}:
            # What the deletion itself wrote, a dummy manifest, is gone as well, and was not there before.
            agrees(predicted, how, real._replace(blobs=real.blobs & set(naive.size)))
    judge(then, grown.root)
    # A blob whose bytes are a manifest is served as one, and no collector takes it for one: that HTTP cannot tell.
    ghosts = there(seen.manifests[seen.manifests["checked"]]) - there(before.manifests)
    if set(done) <= {"done"} and not ghosts:
        bounds(promised, predicted, set(seen.blobs["digest"][seen.blobs["kind"] == "foreign layer"]))
    # Go on with what one of the collections left, or with everything.
    chosen = chance.choice(["plain_2", "untagged_2", ""])
    if chosen:
        collect(grown.root, *FLAGS[chosen])
    for how in FLAGS:
        shutil.rmtree(folder / how)


def there(manifests: pd.DataFrame) -> set[Row]:
    return set(zip(manifests["repository"], manifests["digest"], strict=True))


def bounds(promised: Reclaim, real: Reclaim, foreign: set[str]) -> None:
    """What HTTP alone can know: at most this much, at least, or an estimate where not all was asked for."""
    blobs = real.blobs
    # A layer that is said to be elsewhere may lie here all the same, for another manifest or by mistake.
    because = blobs[blobs["plain_2"] & ~blobs["before"] & ~blobs["digest"].isin(foreign)]
    true = real.table.set_index(["collection", "version"])
    for place, told in promised.table.set_index(["collection", "version"]).iterrows():
        match told["bound"]:
            case "at most":
                assert place in (PLACE["plain_2"], PLACE["plain"])
                assert told["size"] >= because["size"].sum()
            case "at least":
                how = next(name for name, other in PLACE.items() if other == place)
                named = set(promised.blobs["digest"][promised.blobs[how]]) - foreign
                there = set(blobs["digest"][blobs[how]])
                assert named <= there or true.loc[place, "bound"] == "fails", place
            case word:
                assert word == "estimate", place


@pytest.mark.parametrize("chain", range(-(-ROUNDS // CHAIN)))
def test_what_is_predicted_is_what_the_real_collection_removes(
    chain: int, distribution_program: None, memory: Path
) -> None:
    """Every blob, every byte and every manifest, plain and with --delete-untagged, before and after a deletion."""
    with Grown(memory / "grown", chain) as grown, regnb.connect(grown.url) as registry:
        for number in range(CHAIN):
            try:
                play(grown, registry, memory, 14 if number == 0 else 5)
            except BaseException as error:
                error.add_note(f"chain {chain}, round {number}")
                raise
