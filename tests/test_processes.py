"""What the tests promise about processes: none is left behind unnoticed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from images import ROOT

TESTS = """
    import subprocess
    import pytest

    LASTING = ["sleep", "300"]

    @pytest.fixture(scope="session")
    def lasting():
        with subprocess.Popen(LASTING) as process:
            yield
            process.kill()

    def test_one_that_ends():
        subprocess.run(["true"], check=True)

    def test_one_of_the_session(lasting):
        pass

    def test_one_that_stays():
        subprocess.Popen(["sleep", "301"])

    def test_one_whose_parent_has_ended():
        subprocess.run(["sh", "-c", "sleep 302 & true"], check=True)

    def test_after_them(lasting):
        subprocess.run(["true"], check=True)
"""


def test_a_test_that_leaves_a_process_behind_fails(tmp_path: Path) -> None:
    """The process is named and ended; one that the session's fixture keeps may last, and no other test fails."""
    (tmp_path / "hurried.py").write_text("import processes\nprocesses.watch.patience = 0.2\n", encoding="utf-8")
    (tmp_path / "test_left.py").write_text(textwrap.dedent(TESTS), encoding="utf-8")
    options = ["-p", "no:cacheprovider", "-p", "processes", "-p", "hurried", "-q", "-c", "/dev/null"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-rE", str(tmp_path)], capture_output=True, text=True, check=False,
        cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT / 'tests'}:."},
    )  # fmt: skip
    assert "5 passed, 2 errors" in done.stdout, done.stdout
    for number, name in ((301, "that_stays"), (302, "whose_parent_has_ended")):
        assert f"ERROR test_left.py::test_one_{name}" in done.stdout
        assert f"a process was left running: sleep {number}" in done.stdout
