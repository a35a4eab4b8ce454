"""The command line on what takes up space: audits of storage, thresholds, collections, snapshots, and exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distribution import Distribution
from images import ask, config, fill, image, index, layer, regnb, regnb_process
from proxied import proxy
from scripted import Reply

from regnb.change.plan import Plan
from regnb.wire.client import Client

BASE = layer("base", 100_000)
ONE = image([BASE, layer(1, 20_000)], about=config(created="2025-01-01T00:00:00Z"))
TWO = image([BASE, layer(2, 30_000)], about=config(created="2025-02-01T00:00:00Z"))
NEW = image([BASE, layer(3, 40_000)], about=config(created="2026-03-01T00:00:00Z"))
ARM = image([layer(4, 5_000)], about=config("arm64", created="2026-03-01T00:00:00Z"))
MULTI = index([(NEW, "linux/amd64"), (ARM, "linux/arm64")])


@pytest.fixture
def filled(real: Distribution) -> Distribution:
    fill(real.url, ("vm/app", "1", ONE), ("vm/app", "2", TWO), ("vm/app", "3", NEW), ("tools/cli", "1", MULTI))
    return real


def json_lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """The exit code, and the words on standard error that give its reason."""
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def disk(registry: Distribution) -> int:
    """Every byte below the folder, as the operating system counts it."""
    return sum(path.stat().st_size for path in registry.root.rglob("*") if path.is_file())


def delete_tag(registry: Distribution, repository: str, digest: str) -> None:
    async def work(client: Client) -> None:
        await client.delete_manifest(repository, digest)

    ask(registry.url, work)


def test_an_empty_catalog_is_complete_unless_more_is_known(filled: Distribution, tmp_path: Path) -> None:
    """It says so in words; a snapshot, the storage or a policy that knows of repositories makes it exit code 4."""
    snapshots, empty = str(tmp_path / "snapshots"), tmp_path / "empty"
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rule]]\nrepositories = ["vm/*"]\nkeep_newest = 1\n')
    check(regnb(tmp_path, "audit", filled.url, "--snapshot", snapshots), 0)
    filled.stop()
    filled.root.rename(empty)
    filled.root.mkdir()
    filled.start()
    alone = regnb(tmp_path, "audit", filled.url)
    check(alone, 0)
    assert "Complete: the catalog is empty" in alone.stdout
    for _ in range(2):
        check(regnb(tmp_path, "audit", filled.url, "--snapshot", snapshots), 4, "The catalog is empty: 2 fewer")
    check(regnb(tmp_path, "reconcile", filled.url, str(empty)), 4, "2 fewer repositories than the storage has")
    check(regnb(tmp_path, "retention", filled.url, str(policy)), 4, "is empty, and the policy names vm/*")
    check(regnb(tmp_path, "audit", filled.url, "--repository", "vm/*"), 4)


def test_an_empty_storage_is_complete_unless_a_snapshot_knows_more(filled: Distribution, tmp_path: Path) -> None:
    """It says so in words, and it is exit code 4 where the storage had repositories when a snapshot was taken."""
    snapshots = str(tmp_path / "snapshots")
    check(regnb(tmp_path, "audit", str(filled.root), "--snapshot", snapshots), 0)
    shutil.rmtree(filled.root / "docker/registry/v2/repositories")
    (filled.root / "docker/registry/v2/repositories").mkdir()
    alone = regnb(tmp_path, "audit", str(filled.root))
    check(alone, 0)
    assert "Complete: the storage has no repositories." in alone.stdout
    again = regnb(tmp_path, "audit", str(filled.root), "--snapshot", snapshots)
    check(again, 4, "The storage has no repositories: 2 fewer repositories than on 20")


@pytest.mark.parametrize("kind", ["folder", "url", "relative"])
def test_an_audit_of_storage(kind: str, filled: Distribution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is read as storage, however it is named: every byte on disk is told apart, and what could go."""
    monkeypatch.chdir(filled.root.parent)
    where = {"folder": str(filled.root), "url": filled.root.as_uri(), "relative": filled.root.name}[kind]
    done = regnb(tmp_path, "audit", where)
    check(done, 0)
    for words in ("Where the bytes are", "orphans", "--delete-untagged", "breaks images", "Complete"):
        assert words in done.stdout
    assert "cannot be seen over HTTP" not in done.stdout
    found = json.loads(regnb(tmp_path, "audit", where, "--json").stdout)
    assert (found["source"], found["tags"], found["stored"]) == ("storage", 4, filled.stored())
    assert sum(row["size"] for row in found["disk"]) == disk(filled)
    assert next(row["size"] for row in found["breakdown"] if row["what"] == "disk") == disk(filled)


def test_an_audit_over_http_says_that_it_looked_at_no_layer(filled: Distribution, tmp_path: Path) -> None:
    """A layer of no bytes is not a problem to it, as it did not ask; the storage names it."""
    blobs = [path for path in filled.root.rglob("data") if path.read_bytes()[:1] != b"{"]
    for path in blobs:
        path.write_bytes(b"")
    done = regnb(tmp_path, "audit", filled.url)
    check(done, 0)
    assert "does not check that the bytes of layers are there" in " ".join(done.stdout.split())
    assert "0 bytes on disk" in regnb(tmp_path, "audit", str(filled.root)).stdout


LOADED = """
import sys
from regnb.__main__ import main
try:
    main()
finally:
    print(*sorted({"pandas", "pyarrow"} & sys.modules.keys()), file=sys.stderr)
"""


def test_an_audit_that_only_prints_loads_no_pandas(filled: Distribution) -> None:
    """Pandas takes as much memory as the records of twenty thousand tags; a file of frames needs it."""
    words = [sys.executable, "-c", LOADED, "audit", filled.url, "--no-progress", "--no-cache"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert (done.stderr.split(), "vm/app" in done.stdout) == ([], True)
    done = subprocess.run([*words, "--json"], capture_output=True, text=True, check=True)
    assert done.stderr.split() == ["pandas", "pyarrow"]


def test_an_audit_in_a_process_of_its_own(filled: Distribution, tmp_path: Path) -> None:
    """No warning, no word on standard error, and no colour in a pipe."""
    done = regnb_process(tmp_path, "audit", str(filled.root))
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout


def test_a_threshold(filled: Distribution, tmp_path: Path) -> None:
    """--fail-over counts what is stored in a registry, and what is on the disk of a storage; the reason is said."""
    for where, size in ((filled.url, filled.stored()), (str(filled.root), disk(filled))):
        check(regnb(tmp_path, "audit", where, "--fail-over", str(size)), 0)
        check(regnb(tmp_path, "audit", where, "--fail-over", str(size - 1)), 2, "Over the threshold")


def test_problems_are_over_the_threshold_only_if_asked(filled: Distribution, tmp_path: Path) -> None:
    """--fail-on-problems names them, and the tags that cannot be pulled, and exits with 2."""
    check(regnb(tmp_path, "audit", str(filled.root), "--fail-on-problems"), 0)
    filled.blob(MULTI.digest).unlink()
    check(regnb(tmp_path, "audit", filled.url), 0)
    words = ("1 problem: tools/cli:1 (dangling)", "1 tag cannot be pulled: tools/cli:1")
    check(regnb(tmp_path, "audit", filled.url, "--fail-on-problems"), 2, *words)


def test_snapshots_night_after_night(filled: Distribution, tmp_path: Path) -> None:
    """The first run has nothing to compare with; then growth exits with 2, drift with 3, and 2 comes before 3."""
    saved = str(tmp_path / "saved")
    watch = ("--snapshot", saved, "--fail-on-growth", "10%", "--fail-on-drift")
    for where in (filled.url, str(filled.root)):
        check(regnb(tmp_path, "audit", where, *watch), 0, "No older snapshot")
        check(regnb(tmp_path, "audit", where, *watch), 0, f"Saved {saved}/")
    fill(filled.url, ("vm/app", "4", image([layer(5, 60_000)])))
    for where in (filled.url, str(filled.root)):
        check(regnb(tmp_path, "audit", where, *watch), 2, "Grew by more than 10%")
    fill(filled.url, ("vm/app", "1", TWO))
    delete_tag(filled, "vm/app", NEW.digest)
    for where in (filled.url, str(filled.root)):
        check(regnb(tmp_path, "audit", where, *watch), 3, "1 tag moved", "vm/app:1", "1 tag vanished", "vm/app:3")
    fill(filled.url, ("vm/app", "1", image([layer(6, 90_000)])))
    done = regnb(tmp_path, "audit", filled.url, "--snapshot", saved, "--fail-on-growth", "50kB", "--fail-on-drift")
    check(done, 2, "Grew by more than 50kB", "1 tag moved")
    rows = json_lines(regnb(tmp_path, "snapshots", saved, "--json"))
    assert [row["status"] for row in rows] == ["ok"] * 9
    assert {row["source"] for row in rows} == {"api", "storage"}


def test_a_damaged_snapshot_is_passed_over(filled: Distribution, tmp_path: Path) -> None:
    """The newest one that can be read is compared with, and it is said that another was not."""
    saved = tmp_path / "saved"
    watch = ("audit", filled.url, "--snapshot", str(saved), "--fail-on-drift")
    for _ in range(2):
        check(regnb(tmp_path, *watch), 0)
    (max(saved.glob("*/*/*")) / "tags.parquet").write_bytes(b"")
    fill(filled.url, ("vm/app", "1", TWO))
    check(regnb(tmp_path, *watch), 3, "Passed over", "cut short", "vm/app:1")


@pytest.fixture
def watched(filled: Distribution, tmp_path: Path) -> tuple[Distribution, str]:
    """A registry with two snapshots: in between, one tag came, one moved, and one went."""
    saved = str(tmp_path / "saved")
    check(regnb(tmp_path, "audit", filled.url, "--snapshot", saved), 0)
    fill(filled.url, ("vm/app", "4", NEW), ("vm/app", "1", TWO))
    delete_tag(filled, "tools/cli", MULTI.digest)
    check(regnb(tmp_path, "audit", filled.url, "--snapshot", saved), 0)
    return filled, saved


def test_what_changed(watched: tuple[Distribution, str], tmp_path: Path) -> None:
    """``diff`` tells what came, moved and went, of two snapshots or of the last two in a folder."""
    _, saved = watched
    one, two = (row["url"] for row in json_lines(regnb(tmp_path, "snapshots", saved, "--json")))
    for arguments in ((one, two), (saved,)):
        done = regnb(tmp_path, "diff", *arguments)
        check(done, 0)
        assert "tags: 1 new, 1 moved, 1 vanished" in done.stdout
        rows = json_lines(regnb(tmp_path, "diff", *arguments, "--json"))
        assert [(row["change"], row["repository"], row["tag"]) for row in rows] == [
            ("vanished", "tools/cli", "1"), ("moved", "vm/app", "1"), ("new", "vm/app", "4"),
        ]  # fmt: skip


def test_how_it_grew(watched: tuple[Distribution, str], tmp_path: Path) -> None:
    """``growth`` lists the snapshots, and says of a capacity that so few of them do not tell when it is reached."""
    registry, saved = watched
    check(regnb(tmp_path, "audit", registry.url, "--snapshot", saved), 0)
    done = regnb(tmp_path, "growth", saved, "--capacity", "1TB")
    check(done, 0)
    assert "vanished" in done.stdout
    assert "not known" in done.stdout
    rows = json_lines(regnb(tmp_path, "growth", saved, "--json"))
    assert [(row["new"], row["moved"], row["vanished"]) for row in rows] == [
        (None, None, None), (1, 1, 1), (0, 0, 0),
    ]  # fmt: skip
    check(regnb(tmp_path, "audit", str(registry.root), "--snapshot", saved), 0)
    check(regnb(tmp_path, "growth", saved), 1, "snapshots of 2 registries")
    check(regnb(tmp_path, "growth", saved, "--registry", registry.host), 0)


def test_a_mirror(watched: tuple[Distribution, str], tmp_path: Path) -> None:
    """``compare`` takes registries, storages and snapshots; what differs exits with 3, what was not read with 4."""
    registry, saved = watched
    first = json_lines(regnb(tmp_path, "snapshots", saved, "--json"))[0]["url"]
    check(regnb(tmp_path, "compare", registry.url, str(registry.root)), 0)
    done = regnb(tmp_path, "compare", first, registry.url)
    check(done, 3, "They differ")
    rows = json_lines(regnb(tmp_path, "compare", first, str(registry.root), "--json"))
    assert sorted((row["state"], row["repository"], row["tag"]) for row in rows if row["state"] != "same") == [
        ("drifted", "vm/app", "1"), ("extra", "vm/app", "4"), ("missing", "tools/cli", "1"),
    ]  # fmt: skip
    fill(registry.url, ("mirror/vm/app", "1", TWO))
    rows = json_lines(regnb(tmp_path, "compare", registry.url, registry.url, "--prefix", "mirror/", "--json"))
    assert [row["tag"] for row in rows if (row["state"], row["repository"]) == ("same", "vm/app")] == ["1"]
    registry.blob(TWO.digest).unlink()
    registry.restart()
    check(regnb(tmp_path, "compare", registry.url, registry.url), 0)
    check(regnb(tmp_path, "compare", first, registry.url), 3, "missing")
    link = registry.root / "docker/registry/v2/repositories/vm/app/_manifests/tags/2/current/link"
    link.write_bytes(b"")
    registry.restart()
    check(regnb(tmp_path, "compare", registry.url, registry.url), 4, "Incomplete")


def test_what_a_collection_would_remove(filled: Distribution, tmp_path: Path) -> None:
    """``gc`` tells each kind of collection's bytes, exactly as the real one then removes them, and lists the blobs."""
    delete_tag(filled, "vm/app", ONE.digest)
    done = regnb(tmp_path, "gc", str(filled.root))
    check(done, 0)
    assert "breaks images: it removes 2 manifests" in done.stdout
    rows = json_lines(regnb(tmp_path, "gc", str(filled.root), "--json"))
    assert [row["bound"] for row in rows] == ["exact"] * 4
    blobs = json_lines(regnb(tmp_path, "gc", str(filled.root), "--blobs", "--json"))
    assert sum(row["size"] for row in blobs if row["plain_2"]) == rows[0]["size"]
    assert "20.0 kB" in regnb(tmp_path, "gc", str(filled.root), "--blobs").stdout
    before = filled.stored()
    filled.garbage_collect()
    assert before - filled.stored() == rows[0]["size"] > 20_000
    over_http = json_lines(regnb(tmp_path, "gc", filled.url, "--json"))
    assert {row["bound"] for row in over_http} <= {"at most", "at least", "estimate"}


def test_a_folder_named_like_markup(filled: Distribution, tmp_path: Path) -> None:
    """What a folder is called is printed, and not taken for colours."""
    where = tmp_path / "a[" / "b]"
    shutil.copytree(filled.root, where)
    for command in (("gc",), ("audit",), ("free", "1kB", "--keep", "0"), ("reclaim", "vm/app:1")):
        done = regnb(tmp_path, command[0], str(where), *command[1:])
        check(done, 0)
        assert command[0] in ("free", "reclaim") or "a[/b]" in done.stdout


def test_a_collection_that_would_fail(filled: Distribution, tmp_path: Path) -> None:
    """A corrupt link ends every collection: the row and standard error say so, and the exit code is 4."""
    link = next(filled.root.glob("docker/registry/v2/repositories/vm/app/_manifests/revisions/sha256/*/link"))
    link.write_text("sha256:short")
    with pytest.raises(subprocess.CalledProcessError):
        filled.garbage_collect()
    done = regnb(tmp_path, "gc", str(filled.root))
    check(done, 4, "removes nothing")
    assert "fails" in done.stdout
    check(regnb(tmp_path, "reclaim", str(filled.root), "vm/app:1"), 4, "removes nothing")


def test_uploads_are_shown_apart(filled: Distribution, tmp_path: Path) -> None:
    """An upload that was begun and not finished is on the disk, and no collection takes it."""

    async def begin(client: Client) -> None:
        upload = await client.uploads.start_upload("vm/app")
        await client.uploads.upload_chunk(upload, b"x" * 7_000)

    ask(filled.url, begin)
    done = regnb(tmp_path, "gc", str(filled.root))
    check(done, 0)
    assert "1 upload begun and not finished" in done.stdout
    assert "No garbage collection takes them" in done.stdout


def test_what_a_deletion_frees(filled: Distribution, tmp_path: Path) -> None:
    """``reclaim`` tells the bytes, and what stays for which images; nothing is deleted."""
    where = str(filled.root)
    done = regnb(tmp_path, "reclaim", where, "vm/app:1", "vm/app:2")
    check(done, 0)
    assert "because of the deletion of 2 tags" in done.stdout
    stays = done.stdout.partition("What stays")[2]
    assert "100 kB" in stays
    assert "tools/cli" in stays
    rows = json_lines(regnb(tmp_path, "reclaim", where, "vm/app:[12]", "--json"))
    assert 50_000 < rows[0]["size"] < 55_000
    saved = str(tmp_path / "saved")
    check(regnb(tmp_path, "audit", where, "--snapshot", saved), 0)
    snapshot = json_lines(regnb(tmp_path, "snapshots", saved, "--json"))[0]["url"]
    assert json_lines(regnb(tmp_path, "reclaim", snapshot, "vm/app:[12]", "--json")) == rows, "a snapshot knows it, too"
    check(regnb(tmp_path, "reclaim", where, "vm/app:*", "--no-children", "--no-referrers", "--blobs"), 0)
    assert len(json_lines(regnb(tmp_path, "tags", filled.url, "vm/app", "--json"))) == 3


def test_a_pasted_digest_says_who_shares_and_what_is_freed(filled: Distribution, tmp_path: Path) -> None:
    """On docker-registry, in two inputs: the tag of the digest is found; what its deletion frees, and who shares it."""
    done = regnb(tmp_path, "find", ONE.digest, REGNB_URL=filled.url)
    check(done, 0)
    assert "vm/app" in done.stdout
    assert f"docker pull {filled.host}/vm/app@{ONE.digest}" in done.stdout
    done = regnb(tmp_path, "reclaim", "vm/app:1", REGNB_URL=filled.url)
    check(done, 0)
    assert "would remove about 20.7 kB because of the deletion of 1 tag" in done.stdout
    stays = done.stdout.partition("What stays")[2]
    assert {"vm/app", "tools/cli"} <= set(stays.split())


def test_a_proposal_becomes_a_plan(filled: Distribution, tmp_path: Path) -> None:
    """``free`` proposes the oldest, keeps what is protected, and writes the plan of it, which frees what was said."""
    rows = json_lines(regnb(tmp_path, "free", str(filled.root), "20kB", "--json"))
    assert [(row["repository"], row["tag"]) for row in rows] == [("vm/app", "1")]
    rows = json_lines(regnb(tmp_path, "free", filled.url, "20kB", "--protect", "vm/app:1", "--json"))
    assert [row["tag"] for row in rows] == ["2"]
    check(regnb(tmp_path, "free", filled.url, "20kB"), 0, "--plan-out FILE")
    check(regnb(tmp_path, "free", filled.url, "20kB", "--keep", "3"), 2, "Only 0 B of 20.0 kB")
    file = tmp_path / "plan.json"
    done = regnb(tmp_path, "free", filled.url, "20kB", "--plan-out", str(file))
    check(done, 0, f"regnb apply {file}")
    assert "deleted because it was selected" in done.stdout, "the code comes with the plan that it confirms"
    check(regnb(tmp_path, "apply", str(file), "--confirm", Plan.load(file).code), 0)
    before = filled.stored()
    filled.garbage_collect()
    assert before - filled.stored() >= 20_000


def test_api_and_disk(filled: Distribution, tmp_path: Path) -> None:
    """``reconcile`` explains the difference between the two to the byte, and exits with 4 where one was not read."""
    delete_tag(filled, "vm/app", ONE.digest)
    rows = json_lines(regnb(tmp_path, "reconcile", filled.url, str(filled.root), "--json"))
    assert rows[0]["size"] + sum(row["size"] for row in rows if not row["total"]) == rows[-1]["size"] == disk(filled)
    done = regnb(tmp_path, "reconcile", filled.url, str(filled.root))
    check(done, 0)
    (filled.root / "docker/registry/v2/repositories/vm/app/_manifests/tags/2/current/link").write_bytes(b"")
    filled.restart()
    check(regnb(tmp_path, "reconcile", filled.url, str(filled.root)), 4, "Incomplete")


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "empty"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


WRONG = {
    "audit": [
        ["audit", "/no/such"], ["audit", "{empty}"], ["audit", "nope://me:s3cret@there/x"], ["audit"],
        ["audit", "{root}", "--fail-over", "much"], ["audit", "{root}", "--snapshot", "{file}/x"],
        ["audit", "{root}", "--snapshot", "{empty}", "--fail-on-growth", "ten percent"],
        ["audit", "{root}", "--fail-on-growth", "10%"], ["audit", "{root}", "--fail-on-drift"],
        ["audit", "{root}", "--fail-ovr", "10GB"], ["audit", "{root}", "-r", "vm/*"],
    ],
    "gc": [["gc", "/no/such"], ["gc", "{empty}"], ["gc", "{file}"]],
    "reclaim": [
        ["reclaim", "{root}", "vm/app:nope"], ["reclaim", "{root}", "Vm/App:1"], ["reclaim", "{root}"],
        ["reclaim", "{root}", "vm/app"], ["reclaim", "/no/such", "vm/app:1"],
    ],
    "free": [
        ["free", "{root}", "lots"], ["free", "{root}", "1GB", "--keep", "-1"], ["free", "/no/such", "1GB"],
        ["free", "{root}", "1kB", "--plan-out", "plan.json"], ["free", "{root}", "1GB", "--protect", "Vm:1"],
    ],
    "compare": [["compare", "{root}"], ["compare", "{root}", "/no/such"], ["compare", "{empty}", "{root}"]],
    "diff": [["diff", "{empty}"], ["diff", "/no/such"], ["diff", "{root}", "{root}"]],
    "snapshots": [["snapshots", "/no/such"], ["snapshots"]],
    "growth": [
        ["growth", "/no/such"], ["growth", "{empty}", "--capacity", "big"], ["growth", "{empty}", "--registry", "x"],
    ],
    "reconcile": [["reconcile", "{url}", "/no/such"], ["reconcile", "{url}"], ["reconcile", "{root}", "{root}"]],
}  # fmt: skip


@pytest.mark.parametrize("command", WRONG)
def test_what_was_written_wrongly(command: str, filled: Distribution, empty: Path, tmp_path: Path) -> None:
    """Whatever is wrong is one message and exit code 1, never that of a threshold, and never a traceback."""
    (tmp_path / "file").write_text("")
    names = {"root": filled.root, "url": filled.url, "empty": empty, "file": tmp_path / "file"}
    for arguments in WRONG[command]:
        done = regnb(tmp_path, *(each.format(**names) for each in arguments))
        check(done, 1, "Error")
        assert "s3cret" not in done.stderr, arguments
        assert done.stdout == "", arguments


COMMANDS = (
    "audit {url}",
    "gc {url}",
    "reclaim {url} vm/*:1",
    "free {url} 1KB",
    "compare {url} {url}",
    "report {url} -o {folder}/report.html",
    "find {url} vm/app:1",
    "waste {url}",
    "image {url} vm/app:1 --whole",
    "bases {url}",
)
UNNAMED = (
    ("catalog {url}", "regnb tags URL REPOSITORY"),
    ("copy oci:{folder}/layout vm/*:1 --from {url}", "name the repositories: a name without * needs no catalog"),
    ("retag {url} vm/*:1 -t 2", "name the repositories: a name without * needs no catalog"),
    ("reconcile {url} {folder}/real/storage", "name the repositories: a name without * needs no catalog"),
    ("run 02-storage -p url={url} -o {folder}", "-p repositories=NAME"),
    ("run 01-inventory -p url={url} -o {folder}", "-p repository=NAME"),
)
"""Commands that need the catalog, and what they say where there is none: no option that they do not have."""


def test_repositories_are_named_where_there_is_no_catalog(filled: Distribution, tmp_path: Path) -> None:
    """Every command that makes an inventory takes names, also from a file, and then asks for no catalog."""
    names = tmp_path / "names"
    names.write_text("vm/app\n", encoding="utf-8")
    with proxy(filled.host, lambda request: Reply(404) if "/_catalog" in request.path else None) as server:
        for command in COMMANDS:
            code = 4 if command.startswith("waste") else 0  # these layers are no archives
            check(regnb(tmp_path, *command.format(url=server.url, folder=tmp_path).split(), "-r", f"@{names}"), code)
        check(regnb(tmp_path, "delete", server.url, "vm/*:1", "-r", "vm/app", "--plan-out", str(tmp_path / "plan")), 0)
    assert not [each for each in server.requests if "/_catalog" in each.path]


def test_reclaim_of_a_name_needs_no_catalog(filled: Distribution, tmp_path: Path) -> None:
    """What is named exactly is read alone, with bounds that say so; a tag that was not read is not called absent."""
    with proxy(filled.host, lambda request: Reply(404) if "/_catalog" in request.path else None) as server:
        done = regnb(tmp_path, "reclaim", server.url, "vm/app:1")
        check(done, 0)
        assert "repositories that were not read" in done.stdout
        assert "at least" not in done.stdout
        done = regnb(tmp_path, "reclaim", server.url, "vm/app:1", "-r", "vm/other")
    check(done, 1, "there is no vm/app:1 in the repositories that were read")


def test_a_hint_names_no_option_that_its_command_does_not_have(filled: Distribution, tmp_path: Path) -> None:
    """Where the catalog is refused, each command says what to write instead."""
    with proxy(filled.host, lambda request: Reply(404) if "/_catalog" in request.path else None) as server:
        for command in COMMANDS:
            check(regnb(tmp_path, *command.format(url=server.url, folder=tmp_path).split()), 1, "--repository NAME")
        for command, hint in UNNAMED:
            done = regnb(tmp_path, *command.format(url=server.url, folder=tmp_path).split())
            check(done, 1, hint)
            assert "--repository" not in done.stderr
