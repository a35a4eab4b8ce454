"""The user's handle: blocking calls, clear errors, and an interrupt that leaves everything usable."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from distribution import Distribution, free_port
from images import Answer, Fake, Image, attestation, config, fill, image, index, layer, surroundings

import regnb
from regnb import Digest, Interrupted, Reference, RegnbError
from regnb.errors import ConnectionFailed, InvalidArgument, InvalidReference, NotARegistry, NotFound, Unauthorized
from regnb.oci.manifest import SCHEMA1_SIGNED, Index, Manifest
from regnb.wire.cache import Cache

BASE = layer("base", 1000)
ONE = image([BASE, layer(1, 100)], about=config(commands=["ADD rootfs", "RUN one"]))
ARM = image([layer(2, 100)], about=config("arm64", commands=["RUN two"]))
MULTI = index([(ONE, "linux/amd64"), (ARM, "linux/arm64"), (attestation(ONE), "unknown/unknown")])


@pytest.fixture
def filled(real: Distribution) -> Distribution:
    fill(real.url, ("vm/centos8", "8", ONE), ("vm/centos8", "multi", MULTI), ("lib/a", "1", ARM))
    return real


def test_the_blocking_calls(filled: Distribution) -> None:
    """Catalog, tags, digest and manifest say what was pushed."""
    with regnb.connect(filled.url) as registry:
        assert registry.host == filled.host
        assert repr(registry) == f"<Registry {filled.host}>"
        assert registry.catalog()["repository"].tolist() == ["lib/a", "vm/centos8"]
        assert registry.tags("vm/centos8")["tag"].tolist() == ["8", "multi"]
        assert registry.digest("vm/centos8:multi") == MULTI.digest
        manifest = registry.manifest("vm/centos8:8")
        assert isinstance(manifest, Manifest)
        assert manifest.raw == ONE.data
        assert isinstance(registry.manifest(f"vm/centos8@{MULTI.digest}"), Index)
        assert registry.digest(f"{filled.host}/vm/centos8:8") == ONE.digest
        assert registry.digest(Reference("vm/centos8", "8")) == ONE.digest


def test_the_layers_of_an_image(filled: Distribution) -> None:
    """Position, digest, size and command of each layer, and of each image of an index without its attestations."""
    with regnb.connect(filled.url) as registry:
        one = registry.layers("vm/centos8:8")
        assert one["position"].tolist() == [0, 1]
        assert one["digest"].tolist() == [Digest.of(each) for each in ONE.blobs[1:]]
        assert one["size"].tolist() == [1000, 100]
        assert one["command"].tolist() == ["ADD rootfs", "RUN one"]
        multi = registry.layers("vm/centos8:multi")
        assert multi["platform"].tolist() == ["linux/amd64", "linux/amd64", "linux/arm64"]
        assert multi["command"].tolist() == ["ADD rootfs", "RUN one", "RUN two"]


def test_what_is_not_there(filled: Distribution) -> None:
    """A missing tag, repository or host is one error that names it."""
    with regnb.connect(filled.url) as registry:
        with pytest.raises(NotFound, match="vm/centos8"):
            registry.digest("vm/centos8:nope")
        with pytest.raises(NotFound, match="no/such"):
            registry.tags("no/such")
        with pytest.raises(NotFound):
            registry.layers(f"vm/centos8@{Digest.of(b'nothing')}")
        with pytest.raises(InvalidReference):
            registry.tags("No/Such")
        with pytest.raises(InvalidArgument, match="other:5000"):
            registry.digest(Reference("a", registry="other:5000"))


def test_an_image_of_schema_1_has_no_layer_sizes() -> None:
    """Asking for its layers gives an error that says what it is."""
    with Fake() as fake:
        headers = {"Content-Type": SCHEMA1_SIGNED, "Docker-Content-Digest": Digest.of(b"x")}
        fake.routes["/v2/old/manifests/1"] = (200, headers, b'{"schemaVersion":1,"fsLayers":[]}')
        with regnb.connect(fake.url) as registry, pytest.raises(RegnbError, match="schema 1"):
            registry.layers("old:1")


def test_addresses_that_lead_nowhere() -> None:
    """No URL, a bad one, a refused connection and an unknown host are each one clear error with a hint."""
    cases: list[tuple[str | None, type[RegnbError]]] = [
        (None, InvalidArgument), ("", InvalidArgument), ("ftp://localhost", InvalidArgument),
        ("http://", InvalidArgument), ("http://localhost:99999", InvalidArgument),
        (f"http://127.0.0.1:{free_port()}", ConnectionFailed),
        (f"https://127.0.0.1:{free_port()}", ConnectionFailed),
    ]  # fmt: skip
    for url, kind in cases:
        with pytest.raises(kind) as caught:
            regnb.connect(url)
        assert caught.value.hint, url


def test_the_address_may_stand_in_the_environment(real: Distribution, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument, REGNB_URL says where the registry is."""
    monkeypatch.setenv("REGNB_URL", real.url)
    with regnb.connect() as registry:
        assert registry.host == real.host


def test_a_web_page_is_no_registry() -> None:
    """Something that answers every path with HTML is called what it is."""
    with Fake(default=(200, {"Content-Type": "text/html"}, b"<html>hello</html>")) as fake:
        fake.routes.clear()
        with pytest.raises(NotARegistry) as caught:
            regnb.connect(fake.url)
        assert caught.value.hint


def test_missing_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """401 is an error with a hint, and no password is in its text."""
    with Fake() as fake:
        fake.routes["/v2/"] = (401, {"WWW-Authenticate": 'Basic realm="r"'}, b"")
        for more in ({}, {"username": "me", "password": "s3cret-passw0rd"}):
            with pytest.raises(Unauthorized) as caught:
                regnb.connect(fake.url, **more)  # type: ignore[arg-type]
            assert caught.value.hint
            assert "s3cret-passw0rd" not in str(caught.value) + repr(caught.value)
    monkeypatch.undo()


def test_a_handle_closes_once_and_twice(real: Distribution) -> None:
    """Closing twice is no error, and what a handle held is let go."""
    registry = regnb.connect(real.url)
    registry.close()
    registry.close()


def test_it_works_where_a_loop_is_running(filled: Distribution) -> None:
    """A notebook's kernel runs an event loop of its own; the blocking calls work inside it."""

    async def cell() -> list[str]:
        with regnb.connect(filled.url) as registry:
            return list(registry.catalog()["repository"])

    assert asyncio.run(cell()) == ["lib/a", "vm/centos8"]


def test_threads_may_share_a_handle(filled: Distribution) -> None:
    """Several threads ask one handle at once and each gets its answer."""
    found: list[str] = []
    with regnb.connect(filled.url) as registry:
        threads = [threading.Thread(target=lambda: found.append(registry.digest("vm/centos8:8"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [ONE.digest] * 8


def test_the_cache_is_kept_and_can_be_left_out(filled: Distribution, tmp_path: Path) -> None:
    """A second audit takes manifests from the cache and says so; ``cached=False`` reads them all again."""
    with regnb.connect(filled.url, cache=tmp_path / "cache") as registry:
        cold = registry.inventory(progress=False)
        warm = registry.inventory(progress=False)
        fresh = registry.inventory(cached=False, progress=False)
    coverage = [each.coverage.set_index("what") for each in (cold, warm, fresh)]
    assert [each.loc["manifests", "cached"] for each in coverage] == [0, 4, 0]
    assert [each.loc["manifests", "read"] for each in coverage] == [4, 0, 4]
    assert [each.complete for each in (cold, warm, fresh)] == [True] * 3
    assert cold.blobs["size"].sum() == warm.blobs["size"].sum() == fresh.blobs["size"].sum() == filled.stored()
    with regnb.connect(filled.url, cache=False) as registry:
        assert registry.inventory(progress=False).coverage.set_index("what").loc["manifests", "cached"] == 0


def test_an_inventory_of_one_glob(filled: Distribution) -> None:
    """A single text is taken as one name or glob."""
    with regnb.connect(filled.url) as registry:
        assert registry.inventory("vm/*", progress=False).repositories["repository"].tolist() == ["vm/centos8"]
        assert registry.inventory(["lib/a"], progress=False).tags["tag"].tolist() == ["1"]


def test_a_handle_that_is_dropped_closes_itself(filled: Distribution) -> None:
    """A cell that is run again makes another handle: the connections of the one before are closed, without a word."""
    registry = regnb.connect(filled.url, cache=False)
    transport = registry._client.transport
    assert transport._connections is not None
    del registry
    gc.collect()
    deadline = time.monotonic() + 60
    while transport._connections is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert transport._connections is None


def test_the_progress_bar(filled: Distribution, capsys: pytest.CaptureFixture[str]) -> None:
    """The bar shows counts while it runs, and nothing where there is no terminal."""
    with regnb.connect(filled.url) as registry:
        registry.inventory(progress=True)
        shown = capsys.readouterr().err
        assert "3/3" in shown
        assert "2/2 repositories" in shown
        registry.inventory()
        assert capsys.readouterr().err == ""


@contextlib.contextmanager
def crowded(fake: Fake) -> Iterator[dict[str, Image]]:
    """Serve 60 tags at once, and 200 that are answered when this is left."""
    over = threading.Event()
    images = {f"{number:03}": image([], about=config(number=number)) for number in range(260)}
    fake.json("/v2/_catalog", {"repositories": ["app"]})
    fake.repository("app", images)
    for number in range(60, 260):
        path = f"/v2/app/manifests/{number:03}"
        fake.routes[path] = late(fake.routes[path], over)
    try:
        yield images
    finally:
        over.set()


def late(answer: Answer | Callable[[str], Answer], over: threading.Event) -> Callable[[str], Answer]:
    def wait(path: str) -> Answer:
        assert over.wait(60)
        return answer(path) if callable(answer) else answer

    return wait


def kept(folder: Path, images: dict[str, Image]) -> int:
    cache = Cache(folder)
    found = sum(cache.get(each.digest) is not None for each in images.values())
    cache.close()
    return found


def test_an_interrupt_leaves_the_handle_usable(tmp_path: Path) -> None:
    """Ctrl-C raises Interrupted although answers are waited for; what was read is kept, and the handle works on."""
    with Fake() as fake, crowded(fake) as images, regnb.connect(fake.url, cache=tmp_path / "cache") as registry:

        def interrupt() -> None:
            fake.wait(40)
            signal.raise_signal(signal.SIGINT)

        timer = threading.Thread(target=interrupt)
        timer.start()
        with pytest.raises(Interrupted, match="cache"):
            registry.inventory(progress=False)
        timer.join()
        assert registry.digest("app:000") == images["000"].digest
        assert kept(tmp_path / "cache", images) >= 40
        for path in fake.routes:
            if path.startswith("/v2/app/manifests/1"):
                fake.routes[path] = (404, {}, b"")
        before = len(fake.asked)
        registry.inventory(["no/such"], progress=False)
        assert len(fake.asked) < before + 20, "the interrupted crawl is not still running"


AUDIT = """
import sys, regnb
registry = regnb.connect(sys.argv[1])
print("started", flush=True)
registry.inventory()
print("finished", flush=True)
"""


@pytest.mark.parametrize("how", ["script", "command"])
def test_a_process_that_is_interrupted_ends_at_once(tmp_path: Path, how: str) -> None:
    """SIGINT ends a script and the command although answers are waited for, in order, with what was read kept."""
    with Fake() as fake, crowded(fake) as images:
        code = AUDIT if how == "script" else "from regnb.__main__ import main; main()"
        arguments = [fake.url] if how == "script" else ["audit", fake.url]
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings(tmp_path),
        )  # fmt: skip
        fake.wait(40)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate()
    assert "finished" not in printed
    assert process.returncode != 0
    assert "Interrupted" in errors
    assert "Run the same command again" in errors
    if how == "command":
        assert process.returncode == 130
        assert "Traceback" not in errors
    assert kept(tmp_path / "cache" / "regnb", images) >= 40


def test_a_program_that_ends_without_closing(real: Distribution, tmp_path: Path) -> None:
    """A script that never closes its handle ends silently and by itself."""
    code = f"import regnb; registry = regnb.connect({real.url!r}); print(len(registry.catalog()))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False,
        env=surroundings(tmp_path),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_a_failed_connect_leaves_nothing_open() -> None:
    """After an error in connect, no handle is left over but those of before."""
    before = set(regnb.registry._open)
    with pytest.raises(ConnectionFailed):
        regnb.connect(f"http://127.0.0.1:{free_port()}", cache=False)
    assert set(regnb.registry._open) <= before
