"""A terminal's habits: the registry of the environment, plain pipes, options of every command, progress, completion."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import typer
from distribution import Distribution
from images import Fake, config, fill, image, layer, regnb, regnb_process, surroundings
from rich.console import Console
from typer.testing import CliRunner

from regnb import cli, session
from regnb.change.sweep import Row, Sweep
from regnb.cli import collecting, terminal
from regnb.cli.app import COMMANDS
from regnb.cli.options import is_registry
from regnb.oci.reference import Digest
from regnb.tables.cells import cell

ONE = image([layer("base", 1000)], about=config(commands=["RUN one"]))


@pytest.fixture
def filled(real: Distribution) -> Distribution:
    fill(real.url, ("vm/centos8", "8", ONE), ("vm/centos8", "latest", ONE), ("app", "8", ONE))
    return real


@pytest.mark.parametrize(
    "words",
    [
        ["audit"], ["catalog"], ["tags", "vm/centos8"], ["digest", "vm/centos8:8"], ["manifest", "vm/centos8:8"],
        ["layers", "vm/centos8:8"], ["gc"], ["reclaim", "vm/centos8:8"], ["reclaim", "vm/centos8:8", "app:8"],
        ["free", "1"], ["health"], ["retag", "vm/centos8:8", "--tag", "old"], ["copy", "app", "--to", "app2"],
        ["rename", "app", "app2"], ["delete", "vm/centos8:8", "vm/centos8:latest"], ["request", "GET", "/v2/"],
    ],
)  # fmt: skip
def test_the_registry_of_the_environment(words: list[str], filled: Distribution, tmp_path: Path) -> None:
    """Each command prints the same with the registry in REGNB_URL as with the registry among its arguments."""
    given = [*words, "--url", filled.url] if words[0] == "request" else [words[0], filled.url, *words[1:]]
    named, found = regnb(tmp_path, *given), regnb(tmp_path, *words, REGNB_URL=filled.url)
    assert named.returncode == found.returncode == (2 if words[0] == "free" else 0), found.stderr
    assert found.stdout.splitlines()[:1] == named.stdout.splitlines()[:1]


def test_an_argument_wins_over_the_environment(filled: Distribution, tmp_path: Path) -> None:
    """A registry that is written out is used, whatever REGNB_URL names; a word that can mean both is an error."""
    elsewhere = "http://127.0.0.1:9"
    assert regnb(tmp_path, "tags", filled.url, "app", REGNB_URL=elsewhere).stdout == "8\n"
    assert regnb(tmp_path, "digest", filled.host, "app:8", REGNB_URL=elsewhere).returncode == 0
    done = regnb(tmp_path, "delete", "app:8", "vm/centos8:8", REGNB_URL=filled.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "app:8 can mean a registry or a tag" in done.stderr
    done = regnb(tmp_path, "tags", REGNB_URL=filled.url)
    assert "REPOSITORY" in done.stderr
    assert regnb(tmp_path, "compare", filled.url, REGNB_URL=filled.url).returncode == 0


@pytest.mark.parametrize(
    ("word", "is_one"),
    [
        ("http://a", True), ("https://a/b", True), ("localhost", True),
        ("localhost:5000", True), ("10.0.0.1:5000", True),
        ("known.example:5000", True), ("app:8", False), ("app", False), ("vm/centos8:8", False), ("50GB", False),
        ("localhost:5000/app:8", False), ("my.app:8", False),
    ],
)  # fmt: skip
def test_what_can_only_be_a_registry(word: str, is_one: bool) -> None:  # noqa: FBT001 -- a table of cases
    """Names of repositories with a tag are not registries, however much they look like host and port."""
    assert is_registry(word, "https://me:secret@known.example:5000/") is is_one


def test_a_pipe_gets_every_row_whole(filled: Distribution, tmp_path: Path) -> None:
    """No row is folded or left out, and no digest is shortened, however narrow the terminal behind the pipe was."""
    fill(filled.url, *(("many", f"t{number:02}", ONE) for number in range(30)))
    assert regnb(tmp_path, "tags", filled.url, "many").stdout.split() == [f"t{number:02}" for number in range(30)]
    done = regnb(tmp_path, "layers", filled.url, "app:8", COLUMNS="20")
    assert len(done.stdout.splitlines()) == 2
    assert json.loads(regnb(tmp_path, "layers", filled.url, "app:8", "--json").stdout)["digest"] in done.stdout


def test_a_name_between_colons_is_no_picture() -> None:
    """What an emoji is called somewhere else is a tag here: app:new: stands in a title, and in an error."""
    with terminal.out.capture() as shown:
        terminal.section(pd.DataFrame({"what": ["nothing"]}), "Rows of app:new: gone")
    assert "app:new: gone" in shown.get()
    with terminal.err.capture() as shown:
        terminal.say("app:new: gone")
    assert shown.get() == "app:new: gone\n"


@pytest.mark.parametrize(
    "words", [["catalog"], ["tags", "app"], ["digest", "app:8"], ["layers", "app:8"], ["audit"], ["health"], ["gc"]]
)
def test_csv_holds_what_json_holds(words: list[str], filled: Distribution, tmp_path: Path) -> None:
    """``--csv`` prints a heading and the same rows as ``--json``; both together are an error."""
    printed = regnb(tmp_path, *words, "--csv", REGNB_URL=filled.url).stdout
    rows = list(csv.DictReader(io.StringIO(printed)))
    text = regnb(tmp_path, *words, "--json", REGNB_URL=filled.url).stdout
    expected = json.loads(text)["repositories"] if words == ["audit"] else [*map(json.loads, text.splitlines())]
    assert [set(row) for row in rows] == [set(row) for row in expected]
    assert [row[next(iter(row))] for row in rows] == [str(row[next(iter(row))]) for row in expected]
    assert regnb(tmp_path, *words, "--csv", "--json", REGNB_URL=filled.url).returncode == 1


def test_errors_as_json(filled: Distribution, tmp_path: Path) -> None:
    """With ``--json`` an error, a mistyped option and the reason of an exit code are JSON lines on standard error."""
    for words, error in ((["tags", "no/such"], "NotFound"), (["tags", "app", "--nonsense"], "InvalidArgument")):
        done = regnb(tmp_path, *words, "--json", REGNB_URL=filled.url)
        (line,) = done.stderr.splitlines()
        found = json.loads(line)
        assert (done.stdout, found["error"], found["exit"], done.returncode) == ("", error, 1, 1)
        assert found["message"]
    done = regnb(tmp_path, "audit", "--json", "--fail-over", "1B", REGNB_URL=filled.url)
    assert json.loads(done.stderr)["exit"] == done.returncode == 2


def test_quiet_leaves_results_and_errors(filled: Distribution, tmp_path: Path) -> None:
    """``--quiet`` leaves out remarks, before the command's name as after it; the reason of an exit code stays."""
    env = {"REGNB_URL": filled.url}
    assert "Nothing was written" in regnb(tmp_path, "retag", "app:8", "--tag", "x", **env).stderr
    assert regnb(tmp_path, "retag", "app:8", "--tag", "x", "--quiet", **env).stderr == ""
    assert regnb(tmp_path, "-q", "retag", "app:8", "--tag", "x", **env).stderr == ""
    assert "Over the threshold" in regnb(tmp_path, "audit", "-q", "--fail-over", "1B", **env).stderr


@pytest.mark.parametrize("words", [["--concurrency", "0"], ["--timeout", "-1"], ["--timeout", "nan"]])
def test_numbers_that_make_no_sense(words: list[str], tmp_path: Path) -> None:
    """They are an error and a hint before any request is sent."""
    with Fake() as fake:
        done = regnb(tmp_path, "catalog", fake.url, *words)
        assert (done.returncode, fake.asked) == (1, [])
        assert "Hint: give a number" in done.stderr


def test_concurrency_is_a_limit(tmp_path: Path) -> None:
    """``--concurrency 1`` never sends a request while another one is under way."""
    with Fake() as fake:
        under_way, most = 0, 0

        def tags(path: str) -> tuple[int, dict[str, str], bytes]:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            session.time.sleep(0.02)
            under_way -= 1
            return 200, {"Content-Type": "application/json"}, b'{"tags":[]}'

        fake.json("/v2/_catalog", {"repositories": [f"a{number}" for number in range(12)]})
        for number in range(12):
            fake.routes[f"/v2/a{number}/tags/list"] = tags
        assert regnb(tmp_path, "audit", fake.url, "--concurrency", "1").returncode == 0
        assert most == 1


def test_progress_where_there_is_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Count, rate and time left come on standard error while a long read lasts, unless they are unwanted."""
    monkeypatch.setattr(session, "EVERY", 0.05)
    with Fake() as fake:
        fake.json("/v2/_catalog", {"repositories": ["app"]})
        fake.repository("app", {f"t{number}": ONE for number in range(40)})
        answer = fake.routes["/v2/app/manifests/t1"]

        def late(path: str) -> tuple[int, dict[str, str], bytes]:
            session.time.sleep(0.5)
            assert not callable(answer)
            return answer

        fake.routes["/v2/app/manifests/t1"] = late
        done = regnb(tmp_path, "audit", fake.url, REGNB_NO_PROGRESS="")
        assert "Reading: " in done.stderr
        assert "/s, about " in done.stderr
        for words in (["--no-progress"], ["--quiet"]):
            assert "Reading" not in regnb(tmp_path, "audit", fake.url, "--no-cache", *words).stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_placeholders_are_words(name: str) -> None:
    """No help shows a type of Python, and every command has the options that all have."""
    command = typer.main.get_command(cli.app).commands[name]  # type: ignore[attr-defined]
    for each in getattr(command, "commands", {"": command}).values():
        context = typer.Context(each, info_name=name)
        names = {option for parameter in each.get_params(context) for option in parameter.opts}
        assert {"--quiet", "--no-progress", "--timeout", "--concurrency"} <= names
        assert ("--csv" in names) == ("--json" in names)
        for parameter in each.get_params(context):
            shown = parameter.display_type_rich(context) or ""
            assert not {"<", "str", "bool"} & {shown, shown[:1]}, parameter.name


def completed(folder: Path, line: str, **more: str) -> list[str]:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count("\n") or line.count(" "))}
    env = surroundings(folder, _REGNB_COMPLETE="complete_bash", **words, **more)
    code = "import sys; sys.argv[0] = 'regnb'; from regnb.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_whole_in_80_columns(name: str) -> None:
    """No help text of a command or of its subcommands is cut, and each has a third of the line at least."""
    command = typer.main.get_command(cli.app).commands[name]  # type: ignore[attr-defined]
    for words in ([name], *([name, each] for each in getattr(command, "commands", ()))):
        text = CliRunner(env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).invoke(cli.app, [*words, "--help"]).output
        assert not re.search(r"\w…\s*│", text), words
        assert "{" not in text[: text.index("\n", 90)], words  # the line of usage
        assert all(line.index("Show this") < 53 for line in text.splitlines() if "Show this" in line), words


def test_a_narrow_terminal_folds_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found and how to mend it stay in 80 columns, whole; a column that has no room is named below."""
    written = io.StringIO()
    monkeypatch.setattr(terminal, "out", Console(file=written, width=80))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    names = ("rule", "where", "found", "mend", "size")
    found, mend = "no user is set, so containers run as root", "add USER with a number other than 0"
    terminal.draw([(name, False) for name in names], [("root user", "config: User", found, mend, "0 B " * 20)])
    lines = written.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert set(f"{found} {mend}".split()) <= set(written.getvalue().split())
    assert lines[-1] == "not shown: size; --json shows all"


def test_a_narrow_terminal_says_what_became_of_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status and the message of a row have room before the digests that it was about."""
    written = io.StringIO()
    monkeypatch.setattr(terminal, "out", Console(file=written, width=80))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    names = ("step", "action", "repository", "tag", "before", "after", "status", "message")
    row = (
        "0",
        "tag",
        "apps/web",
        "1.0",
        "sha256:3b946961b43b",
        "sha256:9dc4a709d867",
        "failed",
        "no space is left on its disk",
    )
    terminal.draw([(name, False) for name in names], [row])
    head, cells, left = written.getvalue().splitlines()
    assert head.split() == ["step", "action", "repository", "tag", "status", "message"]
    assert "failed  no space is left on its disk" in cells
    assert left == "not shown: before, after; --json shows all"
    digest = "sha256:" + "39ca94d618eaa1a90b07af4ddcb122d51cce3e1b72a8d761cd1b39609899e777"
    written.truncate(written.seek(0))
    shown = [cell(name)(value) for name, value in zip(names, (*row[:3], digest, "", "", *row[6:]), strict=True)]
    terminal.draw([(name, False) for name in names], [shown])
    assert "sha256:39ca94d618ea  failed  no space is left" in written.getvalue().splitlines()[1]


def test_a_narrow_terminal_shows_every_word_of_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two columns that fold share the line, and nothing of a reason is cut off; of a referrer's tag its middle is."""
    written = io.StringIO()
    monkeypatch.setattr(terminal, "out", Console(file=written, width=80, force_terminal=True, no_color=True))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    tag = f"sha256-{'0a' * 32}.sig"
    reason = f"deleted because it refers to {tag} and latest, which is deleted"
    rows = [("delete", "apps/payments", "(part of 3.1.0, latest)", reason), ("delete", "a", terminal.cut(tag), "none")]
    terminal.draw([(name, False) for name in ("action", "repository", "tag", "reason")], rows)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", written.getvalue())
    assert max(map(len, shown.splitlines())) <= 80
    assert set(reason.replace(tag, "sha256-0a0a…0a0a0a.sig").split()) <= set(shown.split())
    monkeypatch.setattr(terminal, "out", Console(file=io.StringIO()))
    assert terminal.cut(reason) == reason, "a pipe gets it whole"


def test_a_narrow_terminal_names_every_row_of_a_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which thing it is and why it goes stay in 80 columns: digests are short, and empty columns are left out."""
    digest, run = str(Digest.of(b"")), "20261129T120000-4f2a91cc"
    rows = (
        Row(kind="upload", repository="vm/centos8", reference="cf067917-0489-4c56-8c6c-a19352e28327", reason="upload"),
        Row(kind="tag history", repository="vm/centos8", tag="8.3", reference=digest, reason="this tag pointed to it"),
        Row(kind="blob", reference=digest, size=20_000, reason="no manifest that stays needs it"),
    )
    shown = {}
    for width in (80, 200):
        written = io.StringIO()
        for module in (terminal, collecting):
            monkeypatch.setattr(module, "out", Console(file=written, width=width))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        collecting.show_sweep(Sweep(operation="collect", url="/srv", steps=rows))
        collecting.show_sweep(Sweep(operation="empty", url="/srv", steps=(Row(kind="run", reference=run),)))
        shown[width] = written.getvalue()
        assert max(map(len, shown[width].splitlines())) <= width
    words = set(shown[80].split())
    assert {"vm/centos8:8.3", Digest(digest).short, "cf067917-…352e28327", run, "stays", "pointed"} <= words
    assert "youngest" not in words
    assert {digest, "8.3", "cf067917-0489-4c56-8c6c-a19352e28327"} <= set(shown[200].split())


def test_completion_from_the_cache(filled: Distribution, tmp_path: Path) -> None:
    """Repositories and tags of an earlier audit complete without a request: here the registry is gone."""
    env = {"REGNB_URL": filled.url}
    assert completed(tmp_path, "regnb tags ", **env) == []
    assert regnb_process(tmp_path, "audit", filled.url).returncode == 0
    filled.stop()
    assert completed(tmp_path, "regnb tags vm", **env) == ["vm/centos8"]
    assert completed(tmp_path, f"regnb tags {filled.url} ") == ["app", "vm/centos8"]
    assert completed(tmp_path, "regnb digest app:", **env) == ["app:8"]
    # As bash has it, which splits at colons; it keeps what stands before the last one.
    url = filled.url.replace(":", "\n:\n")
    assert completed(tmp_path, "regnb\ndigest\napp\n:\n", **env) == ["8"]
    assert completed(tmp_path, "regnb\ndigest\napp\n:", **env) == ["8"]
    assert completed(tmp_path, f"regnb\ntags\n{url}\nvm") == ["vm/centos8"]
    assert completed(tmp_path, "regnb tags ", REGNB_URL="http://127.0.0.1:9") == []
