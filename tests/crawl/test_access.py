"""Access logs as docker-registry and nginx write them tell what was pulled; what a client sends cannot tell more."""

from __future__ import annotations

import gzip
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from distribution import Distribution
from images import Image, fill, image, layer
from reverse import nginx

from regnb.crawl.access import log_lines, read_events, read_log
from regnb.errors import ContentError, StorageError

ONE = image([layer(1, 100)])


def pull(url: str, target: str, method: str = "GET", agent: str = "docker/27") -> None:
    headers = {"Accept": ONE.media_type, "User-Agent": agent}
    with urllib.request.urlopen(urllib.request.Request(url + target, method=method, headers=headers)) as answer:  # noqa: S310 -- loopback
        answer.read()


def pulled(url: str) -> None:
    """Pull a tag, look at another, pull by digest, read what is not a manifest, and audit."""
    pull(url, "/v2/team/app/manifests/1.0")
    pull(url, "/v2/team/app/manifests/1.1", "HEAD")
    pull(url, f"/v2/team/app/manifests/{ONE.digest}")
    pull(url, "/v2/team/app/tags/list")
    pull(url, "/v2/team/app/manifests/audited", agent="regnb")
    with pytest.raises(urllib.error.HTTPError):
        pull(url, "/v2/team/app/manifests/absent")


@pytest.mark.parametrize("formatter", ["text", "json"])
def test_the_logs_of_real_servers_are_read(
    formatter: str, distribution_program: None, proxy_program: None, tmp_path: Path
) -> None:
    """docker-registry's log, as text and as JSON, and nginx's default one tell the same pulls, but not regnb's own."""
    config = {"log": {"level": "info", "formatter": formatter, "accesslog": {"disabled": formatter == "json"}}}
    began = datetime.now(UTC) - timedelta(seconds=2)
    (tmp_path / "nginx").mkdir()
    with Distribution(tmp_path, config=config) as registry:
        tags: list[tuple[str, str, Image]] = [("team/app", tag, ONE) for tag in ("1.0", "1.1", "audited")]
        fill(registry.url, *tags)
        with nginx(tmp_path / "nginx", {"/v2": registry.host}) as front:
            pulled(front.url)
    logs = {"registry": registry.log, "nginx": front.log}
    expected = {("team/app", "1.0"), ("team/app", "1.1"), ("team/app", str(ONE.digest))}
    for name, log in logs.items():
        found = read_log(log_lines(str(log)))
        assert set(found.last) == expected, name
        assert found.period is not None
        since, until = found.period
        assert (
            began
            <= since
            <= min(found.last.values())
            <= until + timedelta(seconds=1)
            <= datetime.now(UTC) + timedelta(1)
        )
        packed = tmp_path / f"{name}.gz"
        packed.write_bytes(gzip.compress(log.read_bytes()))
        assert read_log(log_lines(str(packed))).last == found.last


LINE = '10.0.0.1 - {} [29/Nov/2026:10:21:55 +0100] "{} HTTP/1.1" {} 418 "-" "{}"'


@pytest.mark.parametrize(
    ("user", "request_line", "status", "agent", "expected"),
    [
        ("-", "GET /v2/a/manifests/1", 200, "docker", {("a", "1")}),
        ("-", "GET https://host/v2/a/b/manifests/1?ns=docker.io", 200, "containerd", {("a/b", "1")}),
        ("-", "GET /registry/v2/a/manifests/1", 307, "docker", {("a", "1")}),
        ("-", "GET /v2/a/manifests/sha256%3A" + 64 * "0", 200, "docker", {("a", "sha256:" + 64 * "0")}),
        ("-", "GET /v2/a/manifests/1", 404, "docker", set()),
        ("-", "PUT /v2/a/manifests/1", 201, "docker", set()),
        ("-", "GET /v2/A/manifests/1", 200, "docker", set()),
        ("-", "GET /v2/a/manifests/..", 200, "docker", set()),
        ("-", "GET /v2/a/manifests/1", 200, "regnb", set()),
        ("[01/Jan/2000:00:00:00 +0000]", "GET /v2/a/manifests/1", 200, "docker", {("a", "1")}),
    ],
)
def test_only_what_was_served_is_a_pull(
    user: str, request_line: str, status: int, agent: str, expected: set[tuple[str, str]]
) -> None:
    """A path below a prefix, a query and a redirect are pulls; errors, writes, no names and regnb's own are not.

    A user's name that looks like a time is not one.
    """
    found = read_log([LINE.format(user, request_line, status, agent)])
    assert set(found.last) == expected
    assert found.since == datetime(2026, 11, 29, 9, 21, 55, tzinfo=UTC)


def test_what_is_no_log_is_told(tmp_path: Path) -> None:
    """Lines without a known format are counted; a damaged and a missing file are errors; disorder is not a period."""
    found = read_log(["hello", '{"time": 7}', "time=soon msg=x", 9000 * "[" + '" "'])
    assert (found.lines, found.known, found.period) == (4, 0, None)
    late, early = (LINE.replace("29/Nov", day).format("-", "GET /", 200, "-") for day in ("29/Nov", "28/Nov"))
    assert read_log([late, early]).period is None
    damaged = tmp_path / "log.gz"
    damaged.write_bytes(gzip.compress(late.encode())[:-6])
    for path in (str(damaged), str(tmp_path / "absent")):
        with pytest.raises(StorageError):
            list(log_lines(path))
    for data in (b"[]", b"{", b'{"events": null}', b'{"events": [1]}'):
        with pytest.raises(ContentError):
            read_events(data)
