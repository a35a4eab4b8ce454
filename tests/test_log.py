"""The log: silent by default, one logger a wing, figures and no secrets."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from images import surroundings

from regnb import log
from regnb.errors import InvalidArgument


@pytest.fixture
def quiet() -> Iterator[logging.Logger]:
    """Regnb's root logger, put back as it was."""
    root = logging.getLogger("regnb")
    before = (root.level, list(root.handlers))
    yield root
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def test_it_is_written_once_to_standard_error(quiet: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """Started twice, each line is written once, with the wing's name, and what is below the level is not."""
    log.start("info")
    log.start("info")
    log.logger("wire").info("waits %d s", 3)
    log.logger("wire").debug("GET")
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert written.endswith("regnb.wire: waits 3 s\n")


def test_a_level_that_there_is_not_is_refused(quiet: logging.Logger) -> None:
    """Only the two levels that the documents name are taken."""
    with pytest.raises(InvalidArgument, match="'loud' is not a level of the log; choose from info, debug"):
        log.start("loud")


@pytest.mark.parametrize(
    ("value", "level"), [("", logging.NOTSET), ("Debug", logging.DEBUG), ("nonsense", logging.NOTSET)]
)
def test_the_environment_turns_it_on(tmp_path: Path, value: str, level: int) -> None:
    """Imported with ``REGNB_LOG`` the log is on; without it, or with a word that means nothing, it is off."""
    code = "import logging, regnb; print(logging.getLogger('regnb').level)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=surroundings(tmp_path, REGNB_LOG=value),
    )  # fmt: skip
    assert int(done.stdout) == level
    assert done.stderr == ""
