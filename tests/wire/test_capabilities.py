"""What is known of a registry is what its answers showed, and looking at it sends nothing."""

from __future__ import annotations

import logging
import re

import pytest
from conftest import Seeded

from regnb.registry import connect
from regnb.tables.frame import Frame


def known(frame: Frame) -> dict[str, str]:
    return dict(zip(frame["capability"], frame["supported"], strict=True))


def test_a_new_handle_knows_only_that_it_is_a_registry(seeded: Seeded) -> None:
    """After ``connect`` the version is known, and everything else is unknown, without a time."""
    with connect(seeded.url, cache=False) as registry:
        before = registry._client.transport.sent
        frame = registry.capabilities
        assert registry._client.transport.sent == before
    assert set(known(frame).values()) == {"yes", "unknown"}
    assert frame.loc[frame["supported"] == "yes", "capability"].to_list() == ["API version"]
    assert frame.loc[frame["supported"] == "unknown", "when"].isna().all()


def test_what_was_asked_is_known(writable: Seeded) -> None:
    """An audit and a probe show what a registry offers, each with the answer that showed it and when."""
    with connect(writable.url, cache=False) as registry:
        registry.inventory(progress=False)
        registry.health(probe=True)
        frame = registry.capabilities
    real = writable.kind == "real"
    assert known(frame) == {
        "API version": "yes",
        "catalog": "yes",
        "catalog in pages": "unknown",
        "tags in pages": "unknown",
        "referrers": "no" if real else "yes",
        "deletion": "yes",
        "tag deletion": "no" if real else "yes",
    }
    seen = frame[frame["supported"] != "unknown"]
    assert seen["when"].notna().all()
    assert seen["how"].str.len().min() > 0
    assert ("DELETE of an absent tag: 400" in set(frame["how"])) == real


def test_the_log_tells_it_with_figures_and_without_secrets(seeded: Seeded, caplog: pytest.LogCaptureFixture) -> None:
    """At the level of debug each request is a line of the wire's logger; a password is in none of them."""
    with (
        caplog.at_level(logging.DEBUG, "regnb"),
        connect(seeded.url, username="me", password="s3cret-passw0rd", cache=False) as registry,
    ):
        registry.tags("vm/centos8")
        sent = registry._client.transport.sent
    lines = [record.getMessage() for record in caplog.records if record.name == "regnb.wire"]
    assert len(lines) == sent
    assert all(re.fullmatch(r"GET http://\S+: 200 in \d+ ms", line) for line in lines)
    assert "s3cret" not in caplog.text
