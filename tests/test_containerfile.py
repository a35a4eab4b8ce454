"""The image, as ``make image-test`` builds it: it runs as any user, on a root file system that nobody can write to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from conftest import Seeded
from distribution import free_port
from images import ROOT

from regnb.cluster.resources import Settings, manifests

IMAGE = os.environ.get("REGNB_TESTS_IMAGE", "")
BUILDAH = {name: value for name, value in os.environ.items() if name not in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE")}
"""As it is before any test: buildah wants the file that the variables of the tests name."""
built = pytest.mark.skipif(not IMAGE, reason="make image-test builds the image, and names it in REGNB_TESTS_IMAGE")
ENTER = """\
set -eu
root=$1 user=$2
shift 2
mount --bind "$root" "$root"
mount -o remount,ro,bind "$root"
mount -t tmpfs tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
exec chroot --userspec="$user" "$root" /usr/bin/env -i \\
    PATH=/opt/regnb/bin:/usr/bin:/bin HOME=/tmp USER=regnb LANG=C.UTF-8 "$@"
"""
"""A container without a container engine: mounts of its own, the root file system read-only, /tmp in memory."""


def buildah(*words: str) -> str:
    done = subprocess.run(["buildah", *words], capture_output=True, text=True, check=False, env=BUILDAH)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def root() -> Iterator[str]:
    """The image's root file system."""
    container = buildah("from", "--pull=false", IMAGE)
    yield buildah("mount", container)
    buildah("rm", container)


def entered(root: str, user: str, *words: str) -> list[str]:
    return ["unshare", "--mount", "--pid", "--fork", "sh", "-c", ENTER, "sh", root, user, *words]


def run(root: str, user: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(entered(root, user, *words), capture_output=True, text=True, check=False)


def test_the_containerfile_keeps_its_promises() -> None:
    """No root, hashes for all that is installed, one package of our own, and the same user as on Kubernetes."""
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    last = text.rpartition("FROM ")[2]
    user = re.findall(r"^USER (\d+):0$", last, re.MULTILINE)
    (ui,) = [each for each in manifests(Settings(parts=("ui",))) if each["kind"] == "Deployment"]
    assert user == [str(ui["spec"]["template"]["spec"]["securityContext"]["runAsUser"])]
    installs = re.findall(r"pip install (.*?) (?:\\|&&)", text)
    assert len(installs) == 2
    assert "--require-hashes" in installs[0]
    assert "--no-deps --no-index" in installs[1]


@built
def test_it_says_how_large_it_is() -> None:
    """The size is in the documentation, to the nearest 100 MB."""
    size = json.loads(buildah("images", "--json", IMAGE))[0]["size"]
    (stated,) = re.findall(r"about (\d+) MB", (ROOT / "docs/how-to/image.md").read_text(encoding="utf-8"))
    number, unit = re.fullmatch(r"([\d.]+) (MB|GB)", size).groups()  # type: ignore[union-attr]
    assert abs(float(number) * (1000 if unit == "GB" else 1) - int(stated)) < 100


@built
@pytest.mark.parametrize("user", ["1000:0", "1234567:0"])
def test_any_user_audits(root: str, user: str, seeded_embedded: Seeded) -> None:
    """Also one that OpenShift makes up; nothing can be written but /tmp."""
    done = run(root, user, "regnb", "audit", seeded_embedded.url)
    assert done.returncode == 0, done.stderr
    assert "vm/centos8" in done.stdout
    assert run(root, user, "sh", "-c", "echo >/opt/regnb/x").returncode != 0
    assert run(root, user, "sh", "-c", "echo >/x || echo >/usr/x").returncode != 0


@built
def test_the_ui_starts(root: str, seeded_embedded: Seeded, tmp_path: Path) -> None:
    """As any user: it answers a probe, and serves a page with what is in the registry."""
    from browser import visit  # noqa: PLC0415 -- it needs a browser's packages, which only this test does

    port = free_port()
    words = ("regnb", "ui", "--registry", seeded_embedded.url, "--port", str(port))
    with (tmp_path / "ui.log").open("wb") as log, subprocess.Popen(
        entered(root, "1234567:0", *words), stdout=log, stderr=log, stdin=subprocess.DEVNULL
    ) as process:  # fmt: skip
        try:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and process.poll() is None:
                with suppress(httpx.HTTPError):
                    assert httpx.get(f"http://127.0.0.1:{port}/ui/healthz", timeout=5).text == "ok"
                    break
                time.sleep(0.2)
            assert "vm/centos8" in visit(f"http://127.0.0.1:{port}/ui/").text, (tmp_path / "ui.log").read_text()
        finally:
            # unshare passes no signal on; what it started is the first process of its own numbers, and ends the others.
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGTERM)
            process.wait(60)
