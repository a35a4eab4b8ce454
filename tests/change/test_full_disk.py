"""A disk that is full ends an application with an error and the receipt's name, and there is a way on."""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from distribution import Distribution
from images import fill, image, layer, surroundings
from proxied import state

import regnb
from regnb.change.journal import Receipt, hold
from regnb.errors import StorageError
from regnb.registry import Registry

TAGS = 24
NAMESPACE = ["unshare", *([] if os.getuid() == 0 else ["-r"]), "-m"]
"""What runs a program with mounts of its own, as root, or as whoever may become root in a namespace."""


@pytest.fixture
def receipts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))
    return tmp_path / "receipts"


@pytest.fixture
def filled(real: Distribution) -> Distribution:
    fill(real.url, *(("a", f"t{number}", image([layer(number % 4, 300)])) for number in range(TAGS)))
    return real


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes: writing then fails as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def tagged(registry: Registry, suffix: str) -> set[str]:
    return {tag for tag in registry.tags("a")["tag"] if tag.endswith(suffix)}


def test_wherever_it_is_full(filled: Distribution, receipts: Path) -> None:
    """At whichever byte of the receipt the disk is full, no write is unannounced, and with room the rest is done."""
    begun = refused = 0
    with regnb.connect(filled.url, cache=False) as registry:
        plan = registry.plan_retag("a:t[0-3]", "{tag}-whole")
        whole = registry.apply(plan, confirm=plan.code).path.stat().st_size
        for number in range(16):
            plan = registry.plan_retag("a:t[0-3]", f"{{tag}}-x{number}")
            with room_for(whole * number // 16), pytest.raises(StorageError, match="keep receipts in") as caught:
                registry.apply(plan, confirm=plan.code)
            there, name = tagged(registry, f"-x{number}"), caught.value.receipt
            assert "make room" in caught.value.hint
            if not name:
                refused += 1
                assert not there
                assert not list(receipts.glob(f"*{plan.code}*"))
                continue
            begun += 1
            receipt = Receipt.load(name)
            assert receipt.status == "unfinished"
            assert receipt.size == receipt.path.stat().st_size, "a part of a line is left"
            assert there <= {plan.steps[step].tag for step in receipt.begun}
            with room_for(receipt.size), pytest.raises(StorageError) as again:
                registry.resume(name)
            assert again.value.receipt == name
            assert registry.resume(name).status == "done"
            assert tagged(registry, f"-x{number}") == {step.tag for step in plan.steps}
        # A file of locks is empty, and yet it needs a place.
        with room_for(0), hold(registry.host, ["a"]):
            pass
    assert min(begun, refused) > 2, (begun, refused)


def test_on_a_disk_that_is_full(filled: Distribution, tmp_path: Path) -> None:
    """The command line, with home and receipts on a small file system of their own: no traceback, and a way on."""
    if (
        shutil.which("unshare") is None
        or subprocess.run(
            [*NAMESPACE, "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("tmpfs: this user may not mount one, not even in a namespace of its own")
    with regnb.connect(filled.url, cache=False) as registry:
        plan = registry.plan_retag("a:*", "{tag}-new")
        plan.save(tmp_path / "plan.json")
    full = tmp_path / "full"
    full.mkdir()
    program = f"{shlex.quote(sys.executable)} -m regnb"
    begun = (
        -(-len(plan.to_json()) // 4096) * 4096
    )  # holds the plan and its announcement, and not what becomes of all rows
    script = f"""
        mount -t tmpfs -o size=1m none {full} || exit 99
        mkdir -p {full}/receipts/locks
        left=$(df --output=avail -B1 {full} | tail -n 1)
        head -c $((left - {begun})) /dev/zero > {full}/pad
        {program} apply {tmp_path}/plan.json --confirm {plan.code}
        echo "code $?"
        {program} receipt list
        rm {full}/pad
        {program} apply --resume $(ls {full}/receipts | grep -o '.*jsonl' | sed 's/.jsonl//')
        echo "code $?"
    """
    env = surroundings(full, REGNB_RECEIPTS=str(full / "receipts"), XDG_CACHE_HOME=str(tmp_path / "cache"))
    done = subprocess.run([*NAMESPACE, "sh", "-c", script], capture_output=True, text=True, check=False, env=env)
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    assert "No space left on device" in done.stderr, said
    assert "To continue: regnb apply --resume 2" in done.stderr, said
    first, rest = done.stdout.removeprefix("code ").split("\n", 1)
    assert first == "1", said
    assert "unfinished" in rest
    assert rest.endswith("code 0\n"), said
    assert {f"a:{step.tag}" for step in plan.steps} <= set(state(filled.url, "a"))
