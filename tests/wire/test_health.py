"""How a registry is, asked of registries that are so; and that asking harms none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Seeded
from distribution import Distribution
from images import config, fill, image, layer
from proxied import proxy, state
from scripted import Reply, Request
from typer.testing import CliRunner

import regnb
from regnb.cli import app
from regnb.errors import ConnectionFailed, Refused
from regnb.tables.frame import Frame

READS = {"GET", "HEAD"}


def row(checks: Frame, name: str) -> tuple[str, str, str]:
    """State, finding and hint of one check."""
    found = checks.set_index("check").loc[name]
    return found["state"], found["found"], found["hint"]


@pytest.fixture
def switched_off(distribution_program: None, tmp_path: Path) -> Iterator[Distribution]:
    """A docker-registry as it is installed: it does not delete."""
    with Distribution(tmp_path / "off", delete=False) as found:
        yield found


def test_it_is_read_and_nothing_is_sent_that_writes(seeded: Seeded) -> None:
    """API, authentication, catalog and referrers are known from GETs and HEADs; deletion is left open."""
    requests: list[Request] = []
    with proxy(seeded.host, requests.append) as between, regnb.connect(between.url, cache=False) as registry:
        checks = registry.health()
    assert {request.method for request in requests} <= READS
    assert row(checks, "API")[:2] == ("ok", "registry/2.0")
    assert "no login is needed" in row(checks, "authentication")[1]
    assert row(checks, "catalog")[1].startswith("16 listed")
    assert row(checks, "deletion")[0] == "skipped"
    assert ("no such endpoint" in row(checks, "referrers")[1]) == (seeded.kind == "real")


def test_asking_whether_it_deletes_deletes_nothing(writable: Seeded) -> None:
    """The probe tells deletion by digest and by tag apart, and every tag is as before."""
    names = ("vm/centos8", "apps/api", "apps/web")
    before = state(writable.url, *names)
    with regnb.connect(writable.url, cache=False) as registry:
        found = row(registry.health(probe=True), "deletion")
    assert found[0] == "ok"
    assert ("no tag alone" in found[1]) == (writable.kind == "real")
    assert ("tags alone" in found[1]) == (writable.kind == "embedded")
    assert state(writable.url, *names) == before


def test_deletion_that_is_switched_off_is_told_with_the_line_to_set(switched_off: Distribution) -> None:
    """405 becomes the line of the registry's configuration."""
    with regnb.connect(switched_off.url, cache=False) as registry:
        found = row(registry.health(probe=True), "deletion")
    assert found[:2] == ("warn", "it is switched off")
    assert "storage.delete.enabled" in found[2]


def test_a_read_only_registry_is_told(real: Distribution) -> None:
    """The other kind of 405."""
    real.stop()
    text = real.config.read_text(encoding="utf-8")
    real.config.write_text(
        text.replace('"storage": {', '"storage": {"maintenance": {"readonly": {"enabled": true}}, '), encoding="utf-8"
    )
    real.start()
    with regnb.connect(real.url, cache=False) as registry:
        assert row(registry.health(probe=True), "deletion")[1] == "the registry is read-only"


def test_a_catalog_that_is_refused_is_a_row(seeded_embedded: Seeded) -> None:
    """Some hosts list no catalog for good: a warning with what to do, and the other checks go on."""

    def refuse(request: Request) -> Reply | None:
        return Reply(404, {"Content-Type": "text/plain"}, b"no") if request.path.startswith("/v2/_catalog") else None

    with proxy(seeded_embedded.host, refuse) as between, regnb.connect(between.url, cache=False) as registry:
        checks = registry.health()
    assert row(checks, "catalog")[0] == "warn"
    assert "a name without" in row(checks, "catalog")[2]
    assert row(checks, "referrers")[0] == "ok"


def test_an_unlawful_name_in_the_catalog_is_not_asked_about(seeded_embedded: Seeded) -> None:
    """A server that lists nonsense first is looked at all the same."""

    def listed(request: Request) -> Reply | None:
        body = b'{"repositories": ["<img src=x>", "vm/centos8"]}'
        return Reply(200, {}, body) if request.path.startswith("/v2/_catalog") else None

    with proxy(seeded_embedded.host, listed) as between, regnb.connect(between.url, cache=False) as registry:
        checks = registry.health()
    assert row(checks, "referrers")[0] == "ok"


def test_a_read_only_handle_asks_nothing_that_writes(seeded_embedded: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ``REGNB_READ_ONLY`` is set, the probe is refused before anything is sent."""
    monkeypatch.setenv("REGNB_READ_ONLY", "1")
    requests: list[Request] = []
    with proxy(seeded_embedded.host, requests.append) as between, regnb.connect(between.url, cache=False) as registry:
        with pytest.raises(Refused) as error:
            registry.health(probe=True)
        assert error.value.hint
    assert {request.method for request in requests} <= READS


def test_no_registry_is_no_row(real: Distribution) -> None:
    """What cannot be talked to at all is an error."""
    with regnb.connect(real.url, cache=False) as registry:
        real.stop()
        with pytest.raises(ConnectionFailed):
            registry.health()


def test_the_command(real: Distribution) -> None:
    """``regnb health`` prints the rows; with ``--probe`` also whether it deletes."""
    fill(real.url, ("a/b", "1", image([layer(1, 100)], about=config())))
    done = CliRunner().invoke(app, ["health", real.url])
    assert done.exit_code == 0, done.output
    assert "skipped" in done.stdout
    done = CliRunner().invoke(app, ["health", real.url, "--probe", "--json"])
    assert '"check":"deletion","state":"ok"' in done.stdout
