"""What runs where nobody looks: the workflows of GitHub and GitLab, the hooks of pre-commit, and a release."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml
from images import ROOT

import regnb

GITHUB = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
GITLAB = yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text(encoding="utf-8"))
PYTHONS = [
    entry.rpartition(" ")[2]
    for entry in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    if "Python :: 3." in entry
]


def test_both_run_everything_on_the_oldest_and_the_newest_python() -> None:
    """In the same images: Debian 12 has the oldest Python, and the newest is the last one of the classifiers."""
    images = [each["image"] for each in GITHUB["test"]["strategy"]["matrix"]["include"]]
    assert images == GITLAB["test"]["parallel"]["matrix"][0]["IMAGE"]
    assert (images[0], PYTHONS[0]) == ("debian:12", "3.11")
    assert images[1].startswith(f"python:{PYTHONS[-1]}-")
    assert ".ci/run" in [step.get("run") for step in GITHUB["test"]["steps"]]
    assert GITLAB["test"]["script"] == [".ci/run"]


def test_an_action_is_of_a_fixed_version() -> None:
    """A version of GitHub's own actions, a commit of everybody else's; and a tool that is fetched has its version."""
    uses = [step["uses"] for job in GITHUB.values() for step in job["steps"] if "uses" in step]
    assert len(uses) > 8
    assert [each for each in uses if not re.fullmatch(r"actions/[\w-]+@v\d+|[\w/-]+@[0-9a-f]{40}", each)] == []
    for name in (".github/workflows/ci.yml", ".gitlab-ci.yml"):
        fetched = re.findall(r"uvx --from (\S+)", (ROOT / name).read_text(encoding="utf-8"))
        assert fetched, name
        assert all("==" in each for each in fetched), name


def test_no_python_is_set_up_in_a_container() -> None:
    """actions/setup-python has builds for the system of GitHub's runners, and none for Debian."""
    inside = [job for job in GITHUB.values() if "container" in job]
    assert inside
    assert not [step for job in inside for step in job["steps"] if "setup-python" in step.get("uses", "")]


def test_only_a_tag_is_published_and_without_a_stored_secret() -> None:
    """The job that publishes gets an identity of one run, may write nothing else, and builds nothing itself."""
    job = GITHUB["publish"]
    assert "refs/tags/v" in job["if"]
    assert job["permissions"] == {"id-token": "write", "attestations": "write", "contents": "read"}
    assert not [step for step in job["steps"] if "run" in step]
    assert "CI_COMMIT_TAG" in GITLAB["publish"]["rules"][0]["if"]
    assert "PYPI_ID_TOKEN" in GITLAB["publish"]["id_tokens"]
    for name in (".github/workflows/ci.yml", ".gitlab-ci.yml"):
        assert "secrets." not in (ROOT / name).read_text(encoding="utf-8")


def test_a_commit_is_checked_as_make_lint_checks() -> None:
    """Each check of the Makefile is a hook, with the same words, and installs its tool in a fresh clone."""
    made = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].partition("\n\n")[0]
    checks = [line.removeprefix("\t$(BIN)/") for line in made.splitlines() if line.startswith("\t")]
    hooks: list[dict[str, Any]] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    entries = [hook["entry"].removesuffix(" --force-exclude") for hook in hooks]
    assert entries == [f".ci/hook {check.removesuffix(' notebooks/*.ipynb')}" for check in checks]


def test_the_version_is_in_one_place() -> None:
    """A release changes one line: neither the code nor a test has the version a second time."""
    again = f"regnb[-:@]{re.escape(regnb.__version__)}"
    found = subprocess.run(
        ["git", "grep", "-nE", again, "--", "regnb", "tests"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.stdout == ""


def test_a_release_is_a_commit_and_a_tag(tmp_path: Path) -> None:
    """The version, the changelog's section and the tag, once all checks passed; nothing if nothing is new."""
    clone = tmp_path / "clone"
    for name in (".ci/release", "CHANGELOG.md", "regnb/__init__.py"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    (clone / ".gitignore").write_text(".venv/\nmade\n")
    (clone / ".venv/bin").mkdir(parents=True)
    (clone / ".venv/bin/python").symlink_to(sys.executable)
    checks = tmp_path / "bin/make"
    checks.parent.mkdir()
    checks.write_text('#!/bin/sh\necho "$@" > made\n')
    checks.chmod(0o755)
    env = {**os.environ, "PATH": f"{checks.parent}:{os.environ['PATH']}", "GIT_CONFIG_GLOBAL": str(tmp_path / "config")}

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=clone, env=env, capture_output=True, text=True, check=False)

    (tmp_path / "config").write_text("[user]\nname = one\nemail = one@example.com\n")
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "One")):
        assert call("git", *words).returncode == 0
    refused = call(".ci/release", "next")
    assert (refused.returncode, "make release VERSION=" in refused.stderr) == (1, True)
    done = call(".ci/release", "91.2.3")
    assert done.returncode == 0, done.stderr
    assert (clone / "made").read_text() == "lint test dist\n"
    assert '__version__ = "91.2.3"' in (clone / "regnb/__init__.py").read_text(encoding="utf-8")
    assert re.search(r"## \[Unreleased\]\n\n## \[91\.2\.3\] - \d{4}-\d\d-\d\d\n", (clone / "CHANGELOG.md").read_text())
    assert call("git", "tag", "--points-at", "HEAD").stdout == "v91.2.3\n"
    assert "git push origin HEAD v91.2.3" in done.stdout
    again = call(".ci/release", "91.2.4")
    assert (again.returncode, "nothing under [Unreleased]" in again.stderr) == (1, True)
