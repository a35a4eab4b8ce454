"""The command line: what it prints, how it fails, and what it exits with."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from urllib.request import urlopen

import pandas as pd
import pytest
from distribution import Distribution, free_port
from images import CLI, ROOT, Fake, config, fill, image, index, layer, regnb, regnb_process, surroundings

from regnb.oci.reference import Digest
from regnb.tables.columns import COLUMNS, INVENTORY

BASE = layer("base", 100_000)
ONE = image([BASE, layer(1, 2000)], about=config(commands=["ADD rootfs", "RUN one"]))
ARM = image([layer(2, 100)], about=config("arm64", commands=["RUN two"]))
MULTI = index([(ONE, "linux/amd64"), (ARM, "linux/arm64")])
SECRET = "s3cret-passw0rd"


@pytest.fixture
def filled(real: Distribution) -> Distribution:
    fill(
        real.url,
        ("vm/centos8", "8", ONE),
        ("vm/centos8", "latest", ONE),
        ("vm/centos8", "m", MULTI),
        ("lib/a", "1", ARM),
    )
    return real


def check_error(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One error, one hint, no traceback, nothing on standard output, no secret."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert re.fullmatch(r"Error: [^\n]+\nHint: [^\n]+\n", done.stderr), done.stderr
    assert SECRET not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_an_audit_in_words(filled: Distribution, tmp_path: Path) -> None:
    """The audit names the totals, the repositories, what is shared, and that it is complete, with exit code 0."""
    done = regnb_process(tmp_path, "audit", filled.url)
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        "2 repositories, 4 tags", "vm/centos8", "lib/a", "Tags on one digest", "vm/centos8:8, vm/centos8:latest",
        "Shared layers", "Complete", "sees no untagged manifests",
    ):  # fmt: skip
        assert words in done.stdout, words
    assert "Problems" not in done.stdout
    assert "\x1b" not in done.stdout, "no colours in a pipe"


def test_an_audit_as_json(filled: Distribution, tmp_path: Path) -> None:
    """``--json`` prints one document whose total is what lies on the registry's disk."""
    done = regnb(tmp_path, "audit", filled.url, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["stored"] == filled.stored()
    assert found["tags"] == 4
    assert sum(row["pull_size"] for row in found["repositories"]) == found["pulled"]
    assert found["complete"] is True
    assert found["problems"] == []


def test_an_audit_in_files(filled: Distribution, tmp_path: Path) -> None:
    """Every frame is written in three formats that hold the same; the Parquet's blobs add up to the disk."""
    for form in ("parquet", "csv", "jsonl"):
        done = regnb(tmp_path, "audit", filled.url, "--output", str(tmp_path / form), "--format", form)
        assert done.returncode == 0, done.stderr
        assert f"Wrote 15 frames to {tmp_path / form}" in done.stderr
    read = {path.stem: pd.read_parquet(path) for path in (tmp_path / "parquet").iterdir()}
    assert set(read) == {"shared_tags", "shared_layers", *INVENTORY}
    for name, frame in read.items():
        assert list(frame.columns) == list(COLUMNS[name])
        lines = (tmp_path / "jsonl" / f"{name}.jsonl").read_text().splitlines()
        assert len(pd.read_csv(tmp_path / "csv" / f"{name}.csv")) == len(lines) == len(frame)
    assert read["blobs"]["size"].sum() == filled.stored()
    tags = [json.loads(line) for line in (tmp_path / "jsonl" / "tags.jsonl").read_text().splitlines()]
    assert [tag["digest"] for tag in tags] == read["tags"]["digest"].tolist()
    assert pd.read_csv(tmp_path / "csv" / "tags.csv")["size"].tolist() == read["tags"]["size"].tolist()


def test_some_repositories_only(filled: Distribution, tmp_path: Path) -> None:
    """``-r`` takes names and globs, again and again."""
    done = regnb(tmp_path, "audit", filled.url, "-r", "vm/*", "--json")
    assert [row["repository"] for row in json.loads(done.stdout)["repositories"]] == ["vm/centos8"]
    done = regnb(tmp_path, "audit", filled.url, "-r", "vm/*", "-r", "lib/a", "--json", "--no-cache")
    assert len(json.loads(done.stdout)["repositories"]) == 2


def test_an_audit_that_is_incomplete(filled: Distribution, tmp_path: Path) -> None:
    """A damaged tag is in the table of problems, and the exit code is 4; a dangling one is known, and leaves it 0."""
    filled.blob(MULTI.digest).unlink()
    filled.restart()
    done = regnb(tmp_path, "audit", filled.url)
    assert (done.returncode, "dangling" in done.stdout) == (0, True)
    tags = filled.root / "docker/registry/v2/repositories/vm/centos8/_manifests/tags"
    next(tags.glob("*/current/link")).write_bytes(b"")
    filled.restart()
    done = regnb(tmp_path, "audit", filled.url)
    assert done.returncode == 4
    assert done.stderr == f"Incomplete: not everything in {filled.host} could be read.\n"
    for words in ("Problems", "failed", "Incomplete", "at least", "vm/centos8"):
        assert words in done.stdout, words
    done = regnb(tmp_path, "audit", filled.url, "--json", "-r", "no/such", "-r", "lib/a")
    assert done.returncode == 4
    assert [row["problem"] for row in json.loads(done.stdout)["problems"]] == ["missing"]


def test_the_small_commands(filled: Distribution, tmp_path: Path) -> None:
    """catalog, tags, digest, manifest and layers print what was pushed, also as JSON lines."""
    env = {"REGNB_URL": filled.url}
    done = regnb(tmp_path, "catalog", filled.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "lib/a\nvm/centos8\n"
    assert regnb(tmp_path, "catalog", "--json", **env).stdout.splitlines() == [
        '{"repository":"lib/a"}', '{"repository":"vm/centos8"}',
    ]  # fmt: skip
    done = regnb(tmp_path, "tags", filled.url, "vm/centos8", "--json")
    assert [json.loads(line)["tag"] for line in done.stdout.splitlines()] == ["8", "latest", "m"]
    assert regnb(tmp_path, "digest", filled.url, "vm/centos8:latest").stdout == f"{ONE.digest}\n"
    assert regnb(tmp_path, "manifest", filled.url, "vm/centos8:m").stdout.encode() == MULTI.data
    done = regnb(tmp_path, "layers", filled.url, "vm/centos8:m", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["platform"], row["command"]) for row in rows] == [
        ("linux/amd64", "ADD rootfs"), ("linux/amd64", "RUN one"), ("linux/arm64", "RUN two"),
    ]  # fmt: skip
    assert sum(row["size"] for row in rows) == 102_100
    assert "100 kB" in regnb(tmp_path, "layers", filled.url, "vm/centos8:8").stdout


def test_skopeo_says_the_same(filled: Distribution, tmp_path: Path) -> None:
    """``regnb digest`` prints what skopeo prints for the same tag."""
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        pytest.skip("skopeo is not installed (apt-get install skopeo)")
    said = subprocess.run(
        [skopeo, "inspect", "--tls-verify=false", "--raw", f"docker://{filled.host}/vm/centos8:m"],
        capture_output=True, check=True, env=surroundings(tmp_path),
    ).stdout  # fmt: skip
    assert regnb(tmp_path, "digest", filled.url, "vm/centos8:m").stdout.strip() == Digest.of(said)


def test_the_cache_commands(filled: Distribution, tmp_path: Path) -> None:
    """``cache info`` tells where and how much, ``cache clear`` forgets it."""
    assert "0 B" in regnb(tmp_path, "cache", "info").stdout
    regnb(tmp_path, "audit", filled.url)
    told = regnb(tmp_path, "cache", "info").stdout
    assert str(tmp_path / "cache" / "regnb" / "content.sqlite") in told
    assert "0 B" not in told.splitlines()[0]
    assert regnb(tmp_path, "cache", "clear").stdout.startswith("Removed ")
    assert "0 B" in regnb(tmp_path, "cache", "info").stdout


def test_wrong_addresses(tmp_path: Path) -> None:
    """A bad URL and a refused connection are one error and a hint, without the password that stood in the URL."""
    check_error(regnb_process(tmp_path, "catalog", "ftp://example.com"), "ftp://example.com")
    check_error(regnb(tmp_path, "catalog", f"ftp://me:{SECRET}@example.com"))
    check_error(regnb(tmp_path, "catalog", f"http://me:{SECRET}@127.0.0.1:{free_port()}"), "127.0.0.1")


def test_what_is_not_there(filled: Distribution, tmp_path: Path) -> None:
    """A missing repository, a missing tag, a bad name and a bad format are one error and a hint each."""
    check_error(regnb(tmp_path, "tags", filled.url, "no/such"), "no/such")
    check_error(regnb(tmp_path, "digest", filled.url, "vm/centos8:nope"), "nope")
    check_error(regnb(tmp_path, "layers", filled.url, "No/Such:1"), "No/Such")
    check_error(regnb(tmp_path, "audit", filled.url, "--format", "xlsx"), "xlsx")
    (tmp_path / "file").write_text("")
    done = regnb(tmp_path, "audit", filled.url, "--output", str(tmp_path / "file"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cannot write" in done.stderr


def test_answers_that_are_none(tmp_path: Path) -> None:
    """401 with and without credentials, a web page and a forbidden catalog are one error and a hint each."""
    with Fake() as fake:
        fake.json("/v2/_catalog", {"errors": [{"code": "DENIED", "message": f"token={SECRET[:3]}"}]}, 403)
        check_error(regnb(tmp_path, "audit", fake.url), "name")
        fake.routes["/v2/"] = (401, {"WWW-Authenticate": 'Basic realm="r"'}, b"")
        check_error(regnb(tmp_path, "audit", fake.url), "credentials", "docker login")
        check_error(regnb(tmp_path, "audit", fake.url, "--user", "me", REGNB_PASSWORD=SECRET))
        fake.routes["/v2/"] = (200, {"Content-Type": "text/html"}, b"<html>hello</html>")
        check_error(regnb(tmp_path, "audit", fake.url), "not a registry")


def test_hostile_texts_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """Escapes, markup of the table's own library and HTML from a registry are printed as text."""
    hostile = "\x1b]0;owned\x07\x1b[31m[red]x[/red] [/] <b> \u202e"
    what = image([BASE, layer(3, 1)], about=config(commands=[hostile, "RUN x"]))
    with Fake() as fake:
        fake.json("/v2/_catalog", {"repositories": ["app", hostile]})
        fake.repository("app", {"1": what, "2": image([BASE], about=config(commands=[hostile]))})
        fake.json("/v2/app/tags/list", {"tags": ["1", "2", hostile]})
        for arguments in (("audit", fake.url), ("layers", fake.url, "app:1")):
            done = regnb(tmp_path, *arguments)
            assert "Traceback" not in done.stderr
            assert "[red]x[/red] [/] <b>" in done.stdout
            for sign in ("\x1b", "\x07", "\u202e"):
                assert sign not in done.stdout + done.stderr


def test_a_reader_that_goes_away(filled: Distribution, tmp_path: Path) -> None:
    """``| head -1`` ends the command without a word."""
    many = Fake()
    many.json("/v2/_catalog", {"repositories": [f"app-{number}" for number in range(20_000)]})
    with many as fake:
        line = f"{' '.join(map(quote, CLI))} catalog {fake.url} | head -1"
        done = subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, check=False, env=surroundings(tmp_path)
        )
    assert (done.stdout.strip(), done.stderr) == ("app-0", "")


def quote(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def test_help_and_version(tmp_path: Path) -> None:
    """No argument prints the help; -h works; the version is the package's."""
    import regnb as package  # noqa: PLC0415 -- the name is taken above

    for arguments in (("-h",), ("--help",), ()):
        assert "audit" in regnb(tmp_path, *arguments).stdout
    assert regnb(tmp_path, "--version").stdout == f"regnb {package.__version__}\n"
    assert regnb(tmp_path, "audit", "--nonsense").returncode == 1, "2 is a threshold's"


def test_serve_on_a_port_that_is_in_use(tmp_path: Path) -> None:
    """A busy port is one error and a hint."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        check_error(regnb_process(tmp_path, "serve", str(tmp_path / "storage"), "--port", str(port)), str(port))


def test_serve_over_something_else(tmp_path: Path) -> None:
    """A folder that holds other files, or a file, is refused with an error and a hint, and left alone."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "holiday.jpg").write_text("")
    check_error(regnb(tmp_path, "serve", str(folder), "--port", "0"), "photos")
    assert [path.name for path in folder.iterdir()] == ["holiday.jpg"]
    check_error(regnb(tmp_path, "serve", str(folder / "holiday.jpg"), "--port", "0"), "holiday.jpg")


def test_serve_and_audit(tmp_path: Path) -> None:
    """``regnb serve`` runs a registry that can be filled and audited; Ctrl-C ends it without a traceback."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [*CLI, "serve", str(tmp_path / "storage"), "--port", str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings(tmp_path),
    )  # fmt: skip
    killer = threading.Timer(60, process.kill)
    killer.start()
    assert process.stderr
    first = process.stderr.readline()
    assert url in first
    with urlopen(f"{url}/v2/") as answer:  # noqa: S310 -- the test's own server
        assert answer.status == 200
    fill(url, ("vm/centos8", "8", ONE))
    done = regnb(tmp_path, "audit", url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 repository, 1 tag" in done.stdout
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    killer.cancel()
    assert "Traceback" not in errors
    assert process.returncode in (0, 130)


def test_the_command_is_installed_by_the_package() -> None:
    """The script that pip makes and ``python -m regnb`` run the same function."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts == {"regnb": "regnb.__main__:main"}


def test_the_command_without_its_extra(tmp_path: Path) -> None:
    """Without typer, the command prints one error and the line that installs it."""
    code = "import sys; sys.modules['typer'] = None; from regnb.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False,
        env=surroundings(tmp_path),
    )  # fmt: skip
    check_error(done, "typer", "pip install 'regnb[cli]'")


def test_an_output_that_is_a_file_is_refused_before_the_crawl(tmp_path: Path) -> None:
    """Nobody waits for a crawl whose result cannot be written; here not even a tag is asked for."""
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with Fake() as fake:
        fake.json("/v2/", {})
        done = regnb(tmp_path, "audit", fake.url, "--output", str(tmp_path / "file"))
    assert done.returncode == 1
    assert "cannot write to" in done.stderr
    assert "Hint: name a folder that you may write to" in done.stderr
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"
