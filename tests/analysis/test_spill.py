"""What a database puts on disk has an end, and nobody has to clear it away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from regnb.analysis import spill
from regnb.analysis.spill import spilling

HOLDING = """
from regnb.analysis.spill import spilling
with spilling() as (folder, most):
    (folder / "part").write_text("1")
    print(folder, flush=True)
    input()
"""


def test_what_a_killed_process_left_is_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock ends with it. A folder that is held stays, and so does one that is just being made."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(spill, "_YOUNG", 0)
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        with spilling() as (folder, most):
            assert left.is_dir()
            assert folder.parent == tmp_path
            assert most > 0
            process.send_signal(signal.SIGKILL)
            process.wait()
            with spilling():
                assert not left.exists()
                assert folder.is_dir()
                monkeypatch.setattr(spill, "_YOUNG", 60)
                young = tmp_path / f"{spill._PREFIX}young"
                young.mkdir()
                with spilling():
                    assert young.is_dir()
    assert not folder.exists()
