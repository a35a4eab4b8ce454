"""Fixtures: the real registry and the embedded one, with the same content.

Tests reach loopback only: pytest's ``--allow-hosts`` in pyproject.toml blocks every other address.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import distribution
import httpx
import processes
import pytest
import reverse
from hypothesis import settings

from regnb.local import demo, embedded
from regnb.wire import transport
from regnb.wire.client import Client
from regnb.wire.transport import Transport

REQUIRED = set(os.environ.get("REGNB_TESTS_REQUIRE", "").split(","))
"""Parts whose absence is a failure and not a skip: .ci/run sets ``registry,skopeo,umoci,browser,proxy``."""
# A deadline for each example would be of the machine's speed.
settings.register_profile("regnb", deadline=None)
settings.load_profile("regnb")
# So would be the five seconds that httpx waits for an answer: pytest's one limit ends a test that hangs.
httpx._config.DEFAULT_TIMEOUT_CONFIG.read = None
PLANTED = re.compile(rb"canary[-+]|s3cret-passw0rd")
"""What tests use as a password or a token begins like this."""
READ_FROM_THE_MACHINE = ("DOCKER_", "REGISTRY_", "REGNB_", "XDG_", "JUPYTER")
"""What the environment of the person who runs the tests must not decide."""


def pytest_configure(config: pytest.Config) -> None:
    """Look for processes that tests leave behind: as a plugin, which is asked about fixtures of the session, too."""
    config.pluginmanager.register(processes, "processes")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand the tests out one by one, but a file of browser tests as a whole: they share a JupyterLab, and take long."""
    # --dist=loadgroup, which is for this, groups nothing as of pytest-xdist 3.8 with pytest 9.2.
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 -- only where it is used

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if file.endswith("_browser.py") else nodeid

    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the real registry or a browser, so that ``-m "not registry and not browser"`` leaves both out."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        chosen = getattr(getattr(item, "callspec", None), "params", {})
        if "distribution_program" in fixtures or chosen.get("seeded") == "real":
            item.add_marker("registry")
        if item.path.stem.endswith("_browser"):
            item.add_marker("browser")


def need(part: str, present: object, hint: str) -> None:
    """Skip, or fail where the part is required, if it is not there."""
    if not present:
        (pytest.fail if part in REQUIRED else pytest.skip)(f"{part}: {hint}")


@pytest.fixture(autouse=True, scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty home: no test sees the person's credentials, cache or settings."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(READ_FROM_THE_MACHINE) and not name.startswith("REGNB_TESTS_"):
                patch.delenv(name)
        patch.setenv("HOME", str(folder))
        patch.setenv("DOCKER_CONFIG", str(folder / ".docker"))
        for name in ("CACHE_HOME", "CONFIG_HOME", "DATA_HOME", "RUNTIME_DIR"):
            (folder / name.lower()).mkdir(mode=0o700)
            patch.setenv(f"XDG_{name}", str(folder / name.lower()))
        yield folder


def secrets_below(folder: Path) -> list[Path]:
    """Files that hold a password or token of the tests, but for copies of these tests themselves."""
    left = []
    for path in folder.rglob("*"):
        with suppress(OSError):
            if "tests" not in path.parts and path.is_file() and PLANTED.search(path.read_bytes()):
                left.append(path)
    return left


@pytest.fixture(autouse=True)
def nothing_secret_is_left(tmp_path: Path) -> Iterator[None]:
    """After a test, and before its folder is removed, no password or token stands in any file that it wrote."""
    yield
    assert secrets_below(tmp_path) == []


@pytest.fixture(autouse=True, scope="session")
def nothing_secret_is_left_between_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """After all tests, the same of what several of them shared."""
    yield
    assert secrets_below(tmp_path_factory.getbasetemp()) == []


@pytest.fixture(autouse=True)
def silent_log() -> Iterator[None]:
    """A log that a test turned on is off for the next one."""
    root = logging.getLogger("regnb")
    before = (root.level, list(root.handlers))
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test fetched must not spare another the request."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-home"))


@pytest.fixture(autouse=True, scope="session")
def one_reading_of_certificates() -> Iterator[None]:
    """The system's authorities take 40 ms to read, and a test connects several times: read them once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transport, "_ssl_context", functools.cache(transport._ssl_context))
        yield


@pytest.fixture(scope="session")
def distribution_program() -> None:
    need("registry", distribution.PROGRAM, "docker-registry is not installed (apt-get install docker-registry)")


@pytest.fixture(scope="session")
def proxy_program() -> None:
    need("proxy", reverse.PROGRAM, "nginx is not installed (apt-get install nginx-light)")


@pytest.fixture
def real(distribution_program: None, tmp_path: Path) -> Iterator[distribution.Distribution]:
    """An empty docker-registry with deletion enabled."""
    with distribution.Distribution(tmp_path / "real") as registry:
        yield registry


class Seeded(NamedTuple):
    """A registry that holds the demo content, ``broken/dangling:1.0`` damaged.

    Attributes:
        root: The folder that holds ``docker/registry/v2``.
        seeded: What the pushing found: whether there are referrers, and whether a repository could be emptied.
    """

    kind: str
    url: str
    root: Path
    seeded: demo.Seeded

    @property
    def host(self) -> str:
        return self.url.partition("://")[2]


def push_demo(url: str) -> demo.Seeded:
    """Push the demo content."""

    async def push() -> demo.Seeded:
        async with Client(Transport(url)) as client:
            return await demo.seed(client)

    return anyio.run(push)


@contextmanager
def _real(folder: Path) -> Iterator[tuple[str, Path]]:
    with distribution.Distribution(folder) as registry:
        yield registry.url, registry.root


@contextmanager
def _embedded(folder: Path) -> Iterator[tuple[str, Path]]:
    root = folder / "storage"
    with embedded.running(root) as server:
        yield server.url, root


Run = Callable[[Path], AbstractContextManager[tuple[str, Path]]]


def _serve_seeded(kind: str, run: Run, folder: Path) -> Iterator[Seeded]:
    with run(folder) as (url, root):
        seeded = push_demo(url)
    # Started anew after the damage: distribution remembers what it has seen.
    demo.damage(root)
    with run(folder) as (url, root):
        yield Seeded(kind, url, root, seeded)


@pytest.fixture(scope="session")
def seeded_real(distribution_program: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeded]:
    """Debian's docker-registry with the demo content, for the whole session: read it, never write to it."""
    yield from _serve_seeded("real", _real, tmp_path_factory.mktemp("seeded-real"))


@pytest.fixture(scope="session")
def seeded_embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeded]:
    """The embedded registry with the demo content, for the whole session: read it, never write to it."""
    yield from _serve_seeded("embedded", _embedded, tmp_path_factory.mktemp("seeded-embedded"))


@pytest.fixture(params=["real", "embedded"])
def seeded(request: pytest.FixtureRequest) -> Seeded:
    """Each registry with the demo content in turn: read it, never write to it."""
    found: Seeded = request.getfixturevalue(f"seeded_{request.param}")
    return found


@pytest.fixture
def writable(seeded: Seeded, tmp_path: Path) -> Iterator[Seeded]:
    """Each registry in turn over a copy of its seeded folder, for this test alone."""
    folder = tmp_path / "writable"
    shutil.copytree(seeded.root, folder / "storage")
    with (_real if seeded.kind == "real" else _embedded)(folder) as (url, root):
        yield seeded._replace(url=url, root=root)
