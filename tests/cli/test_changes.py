"""The command line's operations: planned, confirmed, applied, recorded and taken back."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest import mock

import anyio
import pytest
from conftest import Seeded, need
from distribution import Distribution
from images import CLI, ask, config, fill, image, index, layer, regnb, surroundings

from regnb.change import journal as journal_
from regnb.change.journal import Receipt
from regnb.change.plan import Plan
from regnb.errors import NotFound
from regnb.local import embedded
from regnb.wire.client import Client

BASE = layer("base", 10_000)
ONE = image([BASE, layer(1, 2000)], about=config(created="2026-01-01T00:00:00Z"))
TWO = image([BASE, layer(2, 3000)], about=config(created="2026-02-01T00:00:00Z"))
ARM = image([layer(3, 100)], about=config("arm64"))
OLD = image([layer(4, 50)], about=config(created="2025-01-01T00:00:00Z"))
MULTI = index([(ONE, "linux/amd64"), (ARM, "linux/arm64")])
SECRET = "s3cret-passw0rd"

State = dict[tuple[str, str], str]


def state(url: str) -> State:
    """What every tag of a registry points at; "" where it points at nothing."""

    async def look(client: Client) -> State:
        found: State = {}
        async for repositories in client.catalog():
            for repository in repositories:
                with suppress(NotFound):
                    async for tags in client.tags(repository):
                        found |= dict.fromkeys(((repository, tag) for tag in tags), "")
        for repository, tag in found:
            with suppress(NotFound):
                found[repository, tag] = str((await client.head_manifest(repository, tag)).digest)
        return found

    return ask(url, look)


def planned(folder: Path, *arguments: str, **more: str) -> Plan:
    """Run a command that plans, keep the plan in a file, and return it."""
    done = regnb(folder, *arguments, "--plan-out", str(folder / "plan.json"), **more)
    assert done.returncode == 0, done.stderr
    plan = Plan.load(folder / "plan.json")
    assert f"regnb apply {folder / 'plan.json'} --confirm {plan.code}" in done.stderr
    return plan


def applied(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command that plans, and apply what it planned."""
    plan = planned(folder, *arguments, **more)
    return regnb(folder, "apply", str(folder / "plan.json"), "--confirm", plan.code, **more)


def receipt_of(done: subprocess.CompletedProcess[str]) -> str:
    """The name of the receipt that was printed."""
    assert done.stdout.startswith("Receipt "), done.stdout + done.stderr
    return done.stdout.split()[1].rstrip(":")


def folder_of(folder: Path) -> Path:
    """Where the command line keeps the receipts of a test."""
    with mock.patch.dict(os.environ, surroundings(folder), clear=True):
        return journal_.folder()


def check_error(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One error, perhaps a hint, no traceback, no secret."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: ")
    assert SECRET not in done.stdout + done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.fixture
def small(real: Distribution) -> Distribution:
    """One repository: three tags on two images, and an index."""
    fill(
        real.url,
        ("vm/centos8", "1", ONE),
        ("vm/centos8", "2", TWO),
        ("vm/centos8", "latest", TWO),
        ("vm/centos8", "m", MULTI),
    )
    return real


# Each operation from the plan to the state it was before


def retag(before: State) -> State:
    return before | {("vm/centos8", "stable"): before["vm/centos8", "8.4"]}


def copy(before: State) -> State:
    tools = {tag: digest for (repository, tag), digest in before.items() if repository == "tools/cli"}
    return before | {("archive/cli", tag): digest for tag, digest in tools.items()}


def rename(before: State) -> State:
    return {(repository, "8.5" if tag == "8.4" else tag): digest for (repository, tag), digest in before.items()}


def delete(before: State) -> State:
    return {key: digest for key, digest in before.items() if key != ("apps/web", "1.0.0")}


@pytest.mark.parametrize(
    ("arguments", "after"),
    [
        (("retag", "vm/centos8:8.4", "--tag", "stable"), retag),
        (("copy", "tools/cli", "--to", "archive/cli"), copy),
        (("rename", "vm/centos8:8.4", "8.5", "--allow", "dummy"), rename),
        (("delete", "apps/web:1.0.0"), delete),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_an_operation_and_its_undo(
    arguments: tuple[str, ...], after: Callable[[State], State], writable: Seeded, tmp_path: Path
) -> None:
    """Each operation does what it says and no more, gives a receipt, and undo puts everything back."""
    command, *words = arguments
    before = state(writable.url)
    plan = planned(tmp_path, command, writable.url, *words)
    assert state(writable.url) == before, "planning writes nothing"
    done = regnb(tmp_path, "apply", str(tmp_path / "plan.json"), "--confirm", plan.digest)
    assert (done.returncode, done.stderr) == (0, "")
    assert state(writable.url) == after(before)
    name = receipt_of(done)
    assert f"regnb undo {name}" in done.stdout
    shown = regnb(tmp_path, "receipt", "show", name)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert plan.summary() in shown.stdout
    done = applied(tmp_path, "undo", name, "--allow", "dummy")
    assert (done.returncode, done.stderr) == (0, "")
    assert state(writable.url) == before
    assert regnb(tmp_path, "receipt", "verify").returncode == 0


def test_a_copy_from_another_registry(small: Distribution, tmp_path: Path) -> None:
    """``--from`` names the registry that is read; the plan says so, and apply connects to both."""
    with embedded.running(tmp_path / "mirror") as mirror:
        done = applied(tmp_path, "copy", mirror.url, "vm/centos8", "--to", "copy/centos8", "--from", small.url)
        assert (done.returncode, done.stderr) == (0, "")
        expected = {("copy/centos8", tag): digest for (_, tag), digest in state(small.url).items()}
        assert state(mirror.url) == expected
        done = applied(
            tmp_path, "copy", mirror.url, "vm/centos8:m", "--to", "arm/centos8:m", "--from", small.url,
            "--platform", "linux/arm64", "--no-referrers",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert state(mirror.url) == expected | {("arm/centos8", "m"): ARM.digest}


def test_retention(small: Distribution, tmp_path: Path) -> None:
    """A policy gives a reason for each row; what runs in a cluster stays, and the rest goes."""
    policy = tmp_path / "policy.toml"
    text = '[[rule]]\nrepositories = ["vm/*"]\nkeep_newest = 1\n'
    policy.write_text(text, encoding="utf-8")
    fill(small.url, ("vm/centos8", "old", OLD))
    done = regnb(tmp_path, "retention", small.url, str(policy), "--json")
    assert (done.returncode, done.stdout) == (5, "")
    assert "--allow share:vm/centos8" in done.stderr
    done = regnb(tmp_path, "retention", small.url, str(policy), "--json", "--allow", "share:vm/centos8")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["tag"] for row in rows if row["action"] == "keep"} == {"2", "latest"}
    assert all(row["reason"] for row in rows)
    policy.write_text(f'{text}remove_at_most = "80%"\n', encoding="utf-8")
    pods = tmp_path / "pods.json"
    running = {"image": f"{small.host}/vm/centos8:old", "imageID": f"{small.host}/vm/centos8@{OLD.digest}"}
    pods.write_text(
        json.dumps({"kind": "List", "items": [{
            "kind": "Pod", "metadata": {"name": "a", "namespace": "b"}, "spec": {"containers": [running]},
            "status": {"phase": "Running", "containerStatuses": [running]},
        }]}),
        encoding="utf-8",
    )  # fmt: skip
    before = state(small.url)
    done = applied(tmp_path, "retention", small.url, str(policy), "--in-use", str(pods))
    assert (done.returncode, done.stderr) == (0, "")
    assert state(small.url) == {key: digest for key, digest in before.items() if key[1] not in ("1", "m")}
    images = tmp_path / "images.txt"
    images.write_text("r.example/other:1\n", encoding="utf-8")
    done = regnb(tmp_path, "retention", small.url, str(policy), "--in-use", str(images), "--in-use-host", "r.example")
    check_error(done, "none of the 1 image in use was found", "--in-use-host")


# What a plan shows


def test_what_is_printed(small: Distribution, tmp_path: Path) -> None:
    """The plan's sentence and notes come first, then what else it touches, then the rows; a pipe gets them all."""
    done = regnb(tmp_path, "delete", small.url, f"vm/centos8@{TWO.digest}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("delete on ")
    assert done.stdout.index("What else this touches") < done.stdout.index("Rows")
    assert "latest" in done.stdout
    assert "Nothing was written. With --plan-out FILE" in done.stderr
    fill(small.url, *(("many", f"t{number}", ONE) for number in range(30)))
    done = regnb(tmp_path, "retag", small.url, "many:*", "--tag", "{tag}-old")
    assert sum("-old" in line for line in done.stdout.splitlines()) == 30
    assert "more rows" not in done.stdout


def test_rows_as_json(small: Distribution, tmp_path: Path) -> None:
    """``--json`` prints the rows of the plan's frame and nothing else; the file beside it can be applied."""
    done = regnb(
        tmp_path, "retag", small.url, "vm/centos8:1", "--tag", "old", "--json", "--plan-out", str(tmp_path / "p.json")
    )
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (row["action"], row["tag"], row["after"], row["before"]) == ("tag", "old", ONE.digest, None)
    plan = Plan.load(tmp_path / "p.json")
    assert row["curl"] == plan.curl(0)


def test_the_curl_commands_do_the_same(small: Distribution, tmp_path: Path) -> None:
    """A shell that runs what ``--curl`` prints renames a tag as apply does; none of it was run by printing it."""
    before = state(small.url)
    script = regnb(tmp_path, "rename", small.url, "vm/centos8:2", "3", "--allow", "dummy", "--curl").stdout
    assert state(small.url) == before
    subprocess.run(["bash", "-c", script], check=True, cwd=tmp_path, capture_output=True)
    expected = {(repository, "3" if tag == "2" else tag): digest for (repository, tag), digest in before.items()}
    assert state(small.url) == expected


def test_the_curl_commands_end_at_the_first_failure(small: Distribution, tmp_path: Path) -> None:
    """Where the new tag cannot be set, the shell does not go on to remove the old one."""
    script = regnb(tmp_path, "rename", small.url, "vm/centos8:2", "3", "--allow", "dummy", "--curl").stdout
    before = state(small.url)
    script = script.replace("/manifests/3", "/manifests/.not-a-tag")
    done = subprocess.run(["bash", "-c", script], check=False, cwd=tmp_path, capture_output=True)
    assert done.returncode != 0
    assert state(small.url) == before


# What is refused


def test_what_is_not_there(small: Distribution, tmp_path: Path) -> None:
    """An unknown repository, tag, receipt or file, and a name that the grammar forbids, are one error each."""
    for arguments in (
        ("retag", small.url, "no/such:1", "--tag", "x"),
        ("copy", small.url, "no/such", "--to", "x"),
        ("rename", small.url, "no/such", "x"),
        ("delete", small.url, "no/such:1"),
    ):
        check_error(regnb(tmp_path, *arguments), "no/such")
    check_error(regnb(tmp_path, "delete", small.url, "vm/centos8:nope"), "nope")
    check_error(regnb(tmp_path, "delete", small.url, "VM/Centos8:1"), "VM/Centos8")
    check_error(regnb(tmp_path, "retag", small.url, "vm/centos8:1", "--tag", "-x"), "-x")
    check_error(regnb(tmp_path, "retag", small.url, "vm/centos8:1", "--tag", "x", "--allow", "all"), "all", "overwrite")
    check_error(regnb(tmp_path, "retention", small.url, str(tmp_path / "none.toml")), "none.toml")
    check_error(regnb(tmp_path, "apply", str(tmp_path / "none.json"), "--confirm", "x"), "none.json")
    for arguments in (("undo", "none"), ("receipt", "show", "none"), ("apply", "--resume", "none")):
        check_error(regnb(tmp_path, *arguments), "none", "regnb receipt list")
    check_error(regnb(tmp_path, "apply"), "--resume")


def test_a_malformed_policy(small: Distribution, tmp_path: Path) -> None:
    """The error names line and column."""
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rule]]\nrepositories = ["vm/*\n', encoding="utf-8")
    check_error(regnb(tmp_path, "retention", small.url, str(policy)), "line 2")


def test_a_wrong_confirmation(small: Distribution, tmp_path: Path) -> None:
    """None, a wrong one and that of another plan for the same are refused; nothing is written, not even a receipt."""
    other = planned(tmp_path, "retag", small.url, "vm/centos8:1", "--tag", "old")
    planned(tmp_path, "retag", small.url, "vm/centos8:1", "--tag", "old")
    before = state(small.url)
    path = str(tmp_path / "plan.json")
    check_error(regnb(tmp_path, "apply", path), "not confirmed")
    for confirm in ("00000000", other.code, other.digest, Plan.load(path).code[:4]):
        check_error(regnb(tmp_path, "apply", path, "--confirm", confirm), "does not fit")
    assert state(small.url) == before
    assert regnb(tmp_path, "receipt", "list", "--json").stdout == ""


def test_an_edited_plan(small: Distribution, tmp_path: Path) -> None:
    """A plan file in which another tag or another registry was written is refused whatever is confirmed."""
    plan = planned(tmp_path, "retag", small.url, "vm/centos8:1", "--tag", "old")
    path = tmp_path / "plan.json"
    whole = path.read_text(encoding="utf-8")
    before = state(small.url)
    for old, new in (('"old"', '"2"'), (small.host, "127.0.0.1:1"), ('"steps"', '"Steps"'), ("{", "")):
        edited = whole.replace(old, new, 1)
        assert edited != whole
        path.write_text(edited, encoding="utf-8")
        check_error(regnb(tmp_path, "apply", str(path), "--confirm", plan.code), "plan")
    assert state(small.url) == before


def test_a_plan_that_fits_another_registry(small: Distribution, tmp_path: Path) -> None:
    """A plan goes to the registry that it was made for; where another one answers there now, every row is stale."""
    planned(tmp_path, "delete", small.url, "vm/centos8:1", "--allow", "dummy")
    plan = Plan.load(tmp_path / "plan.json")
    small.stop()
    with embedded.running(tmp_path / "other", small.port) as other:
        assert other.url == small.url
        fill(other.url, ("vm/centos8", "1", ARM))
        before = state(other.url)
        done = regnb(tmp_path, "apply", str(tmp_path / "plan.json"), "--confirm", plan.code)
        assert done.returncode == 4, done.stdout + done.stderr
        assert "stale" in done.stdout
        assert state(other.url) == before


def test_deletion_is_switched_off(distribution_program: None, tmp_path: Path) -> None:
    """The error names the line of the registry's configuration; nothing was written and no receipt is left."""
    with Distribution(tmp_path / "real", delete=False) as registry:
        fill(registry.url, ("vm/centos8", "1", ONE))
        before = state(registry.url)
        check_error(applied(tmp_path, "delete", registry.url, "vm/centos8:1"), "storage.delete.enabled: true")
        assert state(registry.url) == before
    assert regnb(tmp_path, "receipt", "list", "--json").stdout == ""


def test_a_registry_that_is_read_only(small: Distribution, tmp_path: Path) -> None:
    """Each kind of write is refused with the word for it, and nothing changes."""
    before = state(small.url)
    small.stop()
    settings = json.loads(small.config.read_text(encoding="utf-8"))
    settings["storage"]["maintenance"] = {"readonly": {"enabled": True}}
    small.config.write_text(json.dumps(settings), encoding="utf-8")
    small.start()
    check_error(applied(tmp_path, "retag", small.url, "vm/centos8:1", "--tag", "old"), "readonly")
    check_error(applied(tmp_path, "copy", small.url, "vm/centos8:1", "--to", "other"), "readonly")
    check_error(applied(tmp_path, "delete", small.url, "vm/centos8:1"), "readonly")
    assert state(small.url) == before


def test_a_tag_that_moved(small: Distribution, tmp_path: Path) -> None:
    """A target that moved after the plan was made is left alone and named; the rest is done, and the exit code is 4."""
    plan = planned(tmp_path, "retag", small.url, "vm/centos8:1", "vm/centos8:2", "--tag", "{tag}-old")
    fill(small.url, ("vm/centos8", "1-old", ARM))
    done = regnb(tmp_path, "apply", str(tmp_path / "plan.json"), "--confirm", plan.code)
    assert done.returncode == 4
    assert "1 of 2 rows done" in done.stdout
    assert "stale" in done.stdout
    found = state(small.url)
    assert found["vm/centos8", "1-old"] == ARM.digest
    assert found["vm/centos8", "2-old"] == TWO.digest
    (row,) = [json.loads(line) for line in regnb(tmp_path, "receipt", "list", "--json").stdout.splitlines()]
    assert (row["receipt"], row["steps"], row["done"], row["status"]) == (receipt_of(done), 2, 1, "partial")
    rows = [
        json.loads(line) for line in regnb(tmp_path, "receipt", "show", receipt_of(done), "--json").stdout.splitlines()
    ]
    assert [row["status"] for row in rows] == ["stale", "done"]


# Receipts


def test_a_receipt_that_was_changed(small: Distribution, tmp_path: Path) -> None:
    """``receipt verify`` finds the changed one of two, exits with 1, and undo refuses it."""
    names = [
        receipt_of(applied(tmp_path, "retag", small.url, "vm/centos8:1", "--tag", tag)) for tag in ("old", "older")
    ]
    assert regnb(tmp_path, "receipt", "verify", names[0]).returncode == 0
    path = folder_of(tmp_path) / f"{names[0]}.jsonl"
    path.write_bytes(path.read_bytes().replace(b"vm/centos8", b"vm/centos9", 1))
    done = regnb(tmp_path, "receipt", "verify")
    assert done.returncode == 1
    assert names[0] in done.stderr
    assert done.stdout.startswith(names[1])
    assert Receipt.load(folder_of(tmp_path) / f"{names[1]}.jsonl").chain in done.stdout
    check_error(regnb(tmp_path, "undo", names[0]), names[0])


def test_an_interrupt_and_its_resumption(small: Distribution, tmp_path: Path) -> None:
    """Ctrl-C while a plan is applied names the receipt and the line that goes on; that line does the rest."""
    plan = planned(tmp_path, "retag", small.url, "vm/centos8:1", "vm/centos8:2", "--tag", "{tag}-old")

    first = threading.Lock()

    async def stuck(*_: object) -> None:
        while first.acquire(blocking=False):  # one row's alone: two at once would be a second Ctrl-C
            os.kill(os.getpid(), signal.SIGINT)
            await anyio.sleep(20)
            first.release()  # Python loses an interrupt that comes while it frees an object
        await anyio.sleep_forever()

    with mock.patch.object(Client, "put_manifest", stuck):
        done = regnb(tmp_path, "apply", str(tmp_path / "plan.json"), "--confirm", plan.code)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    (row,) = [json.loads(line) for line in regnb(tmp_path, "receipt", "list", "--json").stdout.splitlines()]
    assert row["status"] == "unfinished"
    assert f"regnb apply --resume {row['receipt']}" in done.stderr
    done = regnb(tmp_path, "apply", "--resume", row["receipt"])
    assert (done.returncode, done.stderr) == (0, "")
    assert receipt_of(done) == row["receipt"]
    assert {("vm/centos8", "1-old"), ("vm/centos8", "2-old")} <= set(state(small.url))
    check_error(regnb(tmp_path, "apply", "--resume", row["receipt"]), "was done")


# At a terminal


@contextmanager
def terminal(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[str], str], int]]:
    """Run the command line on a terminal of its own: the process, what reads until a text comes, and the other end."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*CLI, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=surroundings(folder), start_new_session=True
    )
    os.close(theirs)
    killer = threading.Timer(60, process.kill)
    killer.start()
    seen = ""

    def read_until(text: str) -> str:
        nonlocal seen
        with suppress(OSError):  # the other end was closed
            while text not in seen or not text:
                seen += os.read(ours, 65536).decode(errors="replace")
        return seen

    try:
        yield process, read_until, ours
    finally:
        process.wait()
        killer.cancel()
        os.close(ours)


@pytest.mark.parametrize("right", [True, False])
def test_the_code_is_typed_at_a_terminal(right: bool, small: Distribution, tmp_path: Path) -> None:  # noqa: FBT001
    """On a terminal the plan is shown and applied if its code is typed; anything else leaves everything as it is."""
    before = state(small.url)
    with terminal(tmp_path, "retag", small.url, "vm/centos8:1", "--tag", "old") as (process, read_until, keyboard):
        shown = read_until("anything else to leave it:")
        code = shown.rpartition("Type ")[2].split()[0]
        os.write(keyboard, f"{code if right else 'yes'}\n".encode())
        shown = read_until("")
        assert process.wait() == 0, shown
    if right:
        assert "1 of 1 row done" in shown
        assert state(small.url) == before | {("vm/centos8", "old"): ONE.digest}
    else:
        assert "Nothing was written." in shown
        assert state(small.url) == before
        assert not folder_of(tmp_path).exists()


# Secrets


@pytest.fixture
def locked(distribution_program: None, tmp_path: Path) -> Iterator[Distribution]:
    """A registry that wants a password."""
    need("registry", shutil.which("htpasswd"), "htpasswd is not installed (apt-get install apache2-utils)")
    passwords = tmp_path / "htpasswd"
    passwords.write_bytes(subprocess.run(["htpasswd", "-Bbn", "me", SECRET], capture_output=True, check=True).stdout)
    auth = {"htpasswd": {"realm": "r", "path": str(passwords)}}
    with Distribution(tmp_path / "locked", config={"auth": auth}) as registry:
        yield registry


def test_no_secret_is_kept(locked: Distribution, tmp_path: Path) -> None:
    """Passwords of both registries, from the environment or the URL, are in no output, no plan and no receipt."""
    env = {"REGNB_PASSWORD": SECRET, "REGNB_SOURCE_PASSWORD": SECRET}
    named = locked.url.replace("://", f"://me:{SECRET}@")
    fill(named, ("vm/centos8", "1", ONE))
    path = str(tmp_path / "plan.json")
    said = []
    for url, user in ((named, ()), (locked.url, ("--user", "me"))):
        done = regnb(tmp_path, "retag", url, "vm/centos8:1", "--tag", f"t{len(said)}", "--plan-out", path, *user, **env)
        assert done.returncode == 0, done.stderr
        shell = regnb(tmp_path, "retag", url, "vm/centos8:1", "--tag", "x", "--curl", *user, **env)
        assert "$AUTHORIZATION" in shell.stdout
        said += [done, shell, regnb(tmp_path, "apply", path, "--confirm", Plan.load(path).code, "--user", "me", **env)]
        assert said[-1].returncode == 0, said[-1].stderr
    with embedded.running(tmp_path / "mirror") as mirror:
        copied = ("copy", mirror.url, "vm/centos8:1", "--to", "x", "--plan-out", path, "--from")
        for source in ((named,), (locked.url, "--from-user", "me")):
            said.append(regnb(tmp_path, *copied, *source, **env))
            assert said[-1].returncode == 0, said[-1].stderr
        code = Plan.load(path).code
        said.append(regnb(tmp_path, "apply", path, "--confirm", code, "--from-user", "me", **env))
        assert said[-1].returncode == 0, said[-1].stderr
    check_error(regnb(tmp_path, "apply", path, "--confirm", "x", "--from-user", "me", **env))
    assert not [done for done in said if SECRET in done.stdout + done.stderr]
    written = [path, *folder_of(tmp_path).glob("*.jsonl")]
    assert len(written) == 4
    assert not [path for path in written if SECRET in Path(path).read_text(encoding="utf-8")]
