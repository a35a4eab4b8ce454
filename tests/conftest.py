"""Fixtures: the real registry and the embedded one, with the same content."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import distribution

REQUIRED = set(os.environ.get("REGNB_TESTS_REQUIRE", "").split(","))
"""Parts whose absence is a failure and not a skip: .ci/run sets ``registry,browser``."""


def need(part: str, present: object, hint: str) -> None:
    """Skip, or fail where the part is required, if it is not there."""
    if not present:
        (pytest.fail if part in REQUIRED else pytest.skip)(f"{part}: {hint}")


@pytest.fixture
def distribution_program() -> None:
    need("registry", distribution.PROGRAM, "docker-registry is not installed (apt-get install docker-registry)")


@pytest.fixture
def real(distribution_program: None, tmp_path: Path) -> Iterator[distribution.Distribution]:
    """An empty docker-registry with deletion enabled."""
    with distribution.Distribution(tmp_path / "real") as registry:
        yield registry
