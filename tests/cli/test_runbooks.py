"""The command line without JupyterLab: running a notebook, and writing a report; exit codes, and no secret anywhere."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Seeded, need
from distribution import Distribution
from images import CLI, config, fill, image, layer, regnb, regnb_process, surroundings
from proxied import gap, proxy
from scripted import Reply, Request, serve

SECRET = "canary-7f3a9c02"
ONE = image([layer(1, 20_000)], about=config(created="2025-01-01T00:00:00Z"))


def record(done: subprocess.CompletedProcess[str]) -> Path:
    """The one line on standard output."""
    (line,) = done.stdout.splitlines()
    return Path(line)


def test_running_a_notebook(seeded: Seeded, tmp_path: Path) -> None:
    """The record's path alone is on standard output; a tag is refused, so the code is 4; standard error says why."""
    with gap(seeded.host) as refused:
        done = regnb(tmp_path, "run", "00-start", "-p", f"url={refused.url}", "-o", str(tmp_path / "records"))
        assert done.returncode == 4
        assert record(done).parent == tmp_path / "records"
        assert done.stderr.splitlines()[-1] == f"Incomplete: not everything in {refused.host} could be read."


def test_running_in_a_process_of_its_own(seeded_real: Seeded, tmp_path: Path) -> None:
    """Of a storage all can be read: 0, and no library warns; REGNB_STORAGE is found, and a foreign kernel not taken."""
    foreign = tmp_path / "jupyter/kernels/python3/kernel.json"
    foreign.parent.mkdir(parents=True)
    foreign.write_text('{"argv": ["false"], "display_name": "Foreign", "language": "python"}', encoding="utf-8")
    env = {"REGNB_STORAGE": str(seeded_real.root), "JUPYTER_PATH": str(tmp_path / "jupyter")}
    done = regnb_process(tmp_path, "run", "storage", "-o", str(tmp_path), **env)
    assert (done.returncode, done.stderr) == (0, "")
    assert record(done).name.startswith("02-storage-2")


def test_the_list_of_runbooks(tmp_path: Path) -> None:
    """Without a name, or by --list: names, questions, and parameters with their defaults."""
    done = regnb(tmp_path, "run")
    assert done.returncode == 0
    assert done.stdout == regnb(tmp_path, "run", "storage", "--list").stdout
    for words in ("12-delete  Which images can go", "protect=  keep=1", "policy=…"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing",), "there is no runbook 'nothing'"),
        (("storage", "-p", "ur=x"), "did you mean url?"),
        (("storage", "-p", "keep=some"), "a whole number"),
        (("storage", "-p", "url"), "-p name=value"),
        (("storage", "-p", f"url=http://me:{SECRET}@127.0.0.1:9"), "docker login"),
        (("start", "-p", "url=http://127.0.0.1:9"), "127.0.0.1:9 refuses connections"),
        (("start", "-p", "url=http://127.0.0.1:9"), "Hint: check the port"),
        (("delete",), "no registry was named"),
        (("start", "-o", "/dev/null/records"), "cannot write"),
    ],
)
def test_what_cannot_be_run(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    """One message and a hint, code 1; a record is kept of what began to run, and only of that."""
    done = regnb(tmp_path, "run", "-o", str(tmp_path / "records"), *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert SECRET not in done.stderr
    assert "Traceback" not in done.stderr
    began = "127.0.0.1:9 " in done.stderr or "no registry" in done.stderr
    assert len([*tmp_path.glob("records/*")]) == began


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C ends the cell and not the record: 130, no traceback, and no kernel is left behind."""
    asked, release = threading.Event(), threading.Event()

    def answer(request: Request, _: int) -> Reply:
        if "_catalog" in request.path:
            asked.set()
            release.wait(60)
        return Reply(200, {"Docker-Distribution-Api-Version": "registry/2.0"}, b'{"repositories": []}')

    with serve(answer) as server:
        command = [*CLI, "run", "start", "-p", f"url={server.url}", "-o", str(tmp_path / "records")]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings(tmp_path)
        )
        assert asked.wait(60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        release.set()
    assert (process.returncode, "Traceback" in err) == (130, False), err
    assert "Interrupted" in err
    cells = json.loads(Path(out.strip()).read_text(encoding="utf-8"))["cells"]
    ends = [found["ename"] for cell in cells for found in cell.get("outputs", []) if found["output_type"] == "error"]
    assert ends in (["Interrupted"], ["KeyboardInterrupt"])
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in shown


def test_a_report(seeded: Seeded, tmp_path: Path) -> None:
    """Its path is on standard output, the command in the file; not all could be read, so the code is 4."""
    path = tmp_path / "reports" / "report.html"
    with gap(seeded.host) as refused:
        done = regnb(tmp_path, "report", refused.url, "-o", str(path))
        assert done.returncode == 4
        assert (record(done), "Incomplete" in done.stderr) == (path, True)
        page = path.read_text(encoding="utf-8")
        assert f"<dd>regnb report {refused.url} -o report.html</dd>" in page
    assert "vm/centos8" in page


def test_a_report_of_storage_with_its_growth(seeded_real: Seeded, tmp_path: Path) -> None:
    """In a process of its own: 0 and not a word; snapshots of the same storage, and when its disk is full."""
    saved = tmp_path / "saved"
    for _ in range(3):
        regnb(tmp_path, "audit", str(seeded_real.root), "--snapshot", str(saved))
    path = tmp_path / "report.html"
    options = ("--snapshots", str(saved), "--capacity", "1TB", "-o", str(path))
    done = regnb_process(tmp_path, "report", str(seeded_real.root), *options)
    assert (done.returncode, done.stderr) == (0, "")
    page = path.read_text(encoding="utf-8")
    assert "1.0 TB: " in page
    assert "Snapshots, the newest first" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("http://127.0.0.1:9",), "refuses connections"),
        (("--capacity", "much"), "is not a valid size"),
        (("--capacity", "1TB"), "add --snapshots URL"),
        (("--snapshots", "/nowhere"), "/nowhere"),
        (("-o", "/dev/null/report.html"), "cannot write"),
        (("-o", "/dev/full"), "cannot write"),
    ],
)
def test_a_report_that_cannot_be_made(
    arguments: tuple[str, ...], words: str, seeded_embedded: Seeded, tmp_path: Path
) -> None:
    """One message, code 1, and no half a file."""
    path = tmp_path / "report.html"
    done = regnb(tmp_path, "report", "-o", str(path), *arguments, REGNB_URL=seeded_embedded.url)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not path.exists()


@pytest.fixture
def locked(distribution_program: None, tmp_path: Path) -> Iterator[Distribution]:
    """A registry that wants a password."""
    need("registry", shutil.which("htpasswd"), "htpasswd is not installed (apt-get install apache2-utils)")
    passwords = tmp_path / "htpasswd"
    passwords.write_bytes(subprocess.run(["htpasswd", "-Bbn", "me", SECRET], capture_output=True, check=True).stdout)
    auth = {"htpasswd": {"realm": "r", "path": str(passwords)}}
    with Distribution(tmp_path / "locked", config={"auth": auth}) as registry:
        yield registry


@pytest.mark.parametrize("how", ["environment", "option", "url"])
def test_no_secret_is_kept(how: str, locked: Distribution, tmp_path: Path) -> None:
    """A password gets the kernel in; it is in no record, no report, no output, no cache and no process's arguments."""
    named = locked.url.replace("://", f"://me:{SECRET}@")
    fill(named, ("vm/centos8", "1", ONE))
    running: list[str] = []

    def look(_: Request) -> None:
        running.append(subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout)

    with proxy(locked.host, look) as between:
        env = {
            "environment": {"REGNB_URL": between.url, "REGNB_USER": "me", "REGNB_PASSWORD": SECRET},
            "option": {"REGNB_PASSWORD": SECRET},
            "url": {"REGNB_URL": between.url.replace("://", f"://me:{SECRET}@")},
        }[how]
        option = ("--user", "me") if how == "option" else ()
        url = () if how == "url" else ("-p", f"url={between.url}")
        kept = tmp_path / "kept"
        home = tmp_path / "home"
        home.mkdir()
        done = regnb_process(home, "run", "start", *url, *option, "-o", str(kept), **env)
        assert done.returncode == 0, done.stderr
        where = () if how == "url" else (between.url,)
        told = regnb_process(home, "report", *where, *option, "-o", str(kept / "report.html"), **env)
        assert told.returncode == 0, told.stderr
    assert "vm/centos8" in record(done).read_text(encoding="utf-8")
    assert "vm/centos8" in (kept / "report.html").read_text(encoding="utf-8")
    assert len(running) > 5
    assert any("ipykernel" in shown for shown in running)
    written = [path.read_bytes() for folder in (kept, home) for path in folder.rglob("*") if path.is_file()]
    assert len(written) >= 2
    texts = [*running, done.stdout, done.stderr, told.stdout, told.stderr]
    assert not [text for text in [*written, *map(str.encode, texts)] if SECRET.encode() in text]


def test_credentials_of_another_registry_stay(locked: Distribution, tmp_path: Path) -> None:
    """What the environment has for its own registry is not shown to the one that is named, though it asks for some."""
    env = {"REGNB_URL": "http://127.0.0.1:9", "REGNB_USER": "me", "REGNB_PASSWORD": SECRET}
    with proxy(locked.host, lambda _: None) as between:
        done = regnb(tmp_path, "run", "delete", "-p", f"url={between.url}", "-o", str(tmp_path), **env)
        assert (done.returncode, "credentials" in done.stderr) == (1, True)
        assert between.requests
        assert not [request for request in between.requests if "authorization" in request.headers]
