"""``regnb request``: bytes as they came to a pipe, readable at a terminal, and never a write without its code."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from distribution import Distribution
from images import CLI, config, fill, image, layer, regnb, surroundings
from test_changes import SECRET, State, check_error, locked, planned, receipt_of, state, terminal  # noqa: F401

from regnb.change.plan import Plan

ONE = image([layer(1, 2000)], about=config(created="2026-01-01T00:00:00Z"))
TWO = image([layer(2, 3000)], about=config(created="2026-02-01T00:00:00Z"))
MANIFEST = "/v2/vm/centos8/manifests/1"


@pytest.fixture
def small(real: Distribution) -> Distribution:
    fill(real.url, ("vm/centos8", "1", ONE), ("vm/centos8", "latest", ONE), ("vm/centos8", "2", TWO))
    return real


def request(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return regnb(folder, "request", *arguments, **more)


def test_a_pipe_gets_the_bytes(small: Distribution, tmp_path: Path) -> None:
    """The body byte for byte and nothing else, with the registry from the environment, an option, or the path's URL."""
    done = subprocess.run(
        [*CLI, "request", "GET", MANIFEST],
        capture_output=True,
        check=True,
        env=surroundings(tmp_path, REGNB_URL=small.url),
    )
    assert (done.stdout, done.stderr) == (ONE.data, b"")
    for arguments in (("GET", MANIFEST, "--url", small.url), ("get", f"{small.url}{MANIFEST}")):
        answer = request(tmp_path, *arguments)
        assert (answer.returncode, answer.stdout.encode(), answer.stderr) == (0, ONE.data, "")
    both = request(tmp_path, "GET", f"{small.url}{MANIFEST}", REGNB_URL=small.url)
    assert both.stdout.encode() == ONE.data
    check_error(request(tmp_path, "GET", f"{small.url}{MANIFEST}", REGNB_URL="http://127.0.0.1:9"), "127.0.0.1:9")
    check_error(request(tmp_path, "GET", MANIFEST), "no registry was named")


def test_headers_as_curl_shows_them(small: Distribution, tmp_path: Path) -> None:
    """``-i`` puts status line and headers before the body, ``-I`` sends a HEAD and prints only these."""
    both = request(tmp_path, "GET", MANIFEST, "-i", REGNB_URL=small.url).stdout
    head, _, body = both.partition("\n\n")
    assert head.startswith("HTTP/1.1 200 OK\n")
    assert f"docker-content-digest: {ONE.digest}" in head
    assert body.encode() == ONE.data
    for arguments in (("GET", MANIFEST, "-I"), ("HEAD", MANIFEST)):
        printed = request(tmp_path, *arguments, REGNB_URL=small.url).stdout
        assert printed.strip().startswith("HTTP/1.1 200 OK\n")
        assert f"docker-content-digest: {ONE.digest}" in printed
        assert "schemaVersion" not in printed


def test_a_status_of_error_is_an_answer(small: Distribution, tmp_path: Path) -> None:
    """The body goes to standard output all the same, a sentence and a hint to standard error, and the code is 1."""
    done = request(tmp_path, "GET", "/v2/no/such/tags/list", REGNB_URL=small.url)
    assert done.returncode == 1
    assert json.loads(done.stdout)["errors"][0]["code"] == "NAME_UNKNOWN"
    assert "404: NAME_UNKNOWN" in done.stderr
    assert "Hint: GET /v2/_catalog" in done.stderr
    assert "Traceback" not in done.stderr


def test_headers_that_are_given(small: Distribution, tmp_path: Path) -> None:
    """What is accepted can be chosen; a credential is not a header, and is not repeated."""
    accept = "Accept: application/vnd.docker.distribution.manifest.v2+json"
    done = request(tmp_path, "GET", MANIFEST, "--header", accept, "--curl", REGNB_URL=small.url)
    assert f"-H '{accept}'" in done.stdout
    check_error(request(tmp_path, "GET", "/v2/", "-H", f"Authorization: {SECRET}", REGNB_URL=small.url), "not sent")
    check_error(request(tmp_path, "GET", "/v2/", "-H", SECRET, REGNB_URL=small.url), "no colon")
    check_error(request(tmp_path, "GET", "/etc", REGNB_URL=small.url), "not a path")
    check_error(request(tmp_path, "GET", "/v2/", "-d", "x", REGNB_URL=small.url), "takes no data")
    check_error(request(tmp_path, "PUT", MANIFEST, "-d", "@absent", REGNB_URL=small.url), "absent")


def test_the_same_with_curl_or_as_json(small: Distribution, tmp_path: Path) -> None:
    """``--curl`` prints a command that gives the same bytes, ``--json`` one line with everything."""
    curl = request(tmp_path, "GET", MANIFEST, "--curl", REGNB_URL=small.url).stdout
    assert subprocess.run(["sh", "-c", curl], capture_output=True, check=True).stdout == ONE.data
    (line,) = request(tmp_path, "GET", MANIFEST, "--json", REGNB_URL=small.url).stdout.splitlines()
    found = json.loads(line)
    assert found["status"] == 200
    assert json.loads(found["text"]) == json.loads(ONE.data)
    assert found["curl"] == curl.strip()
    assert found["headers"]["docker-content-digest"] == ONE.digest


def test_at_a_terminal_it_is_readable(small: Distribution, tmp_path: Path) -> None:
    """JSON stands on lines of its own."""
    with terminal(tmp_path, "request", "GET", MANIFEST, "--url", small.url, "-i") as (process, read_until, _):
        shown = read_until("")
        assert process.wait() == 0
    assert "HTTP/1.1 200 OK" in shown
    assert '  "schemaVersion": 2,' in shown


def delete(before: State) -> State:
    return {key: digest for key, digest in before.items() if digest != ONE.digest}


def test_what_writes_is_planned_applied_and_undone(small: Distribution, tmp_path: Path) -> None:
    """DELETE by digest and PUT of a file are plans in a file; apply needs the code, and undo brings everything back."""
    before = state(small.url)
    body = tmp_path / "manifest.json"
    body.write_bytes(ONE.data)
    wanted = {
        ("DELETE", f"/v2/vm/centos8/manifests/{ONE.digest}"): delete(before),
        ("PUT", "/v2/vm/centos8/manifests/new", "--data", f"@{body}"): before | {("vm/centos8", "new"): ONE.digest},
        ("PUT", "/v2/vm/centos8/manifests/new", "--data", ONE.data.decode()): before
        | {("vm/centos8", "new"): ONE.digest},
        ("DELETE", "/v2/vm/centos8/manifests/latest", "--allow", "dummy"): {
            key: value for key, value in before.items() if key[1] != "latest"
        },
    }
    for arguments, after in wanted.items():
        plan = planned(tmp_path, "request", *arguments, REGNB_URL=small.url)
        assert state(small.url) == before
        path = str(tmp_path / "plan.json")
        check_error(regnb(tmp_path, "apply", path, "--confirm", "00000000"), "does not fit")
        done = regnb(tmp_path, "apply", path, "--confirm", plan.code)
        assert done.returncode == 0, done.stderr
        assert state(small.url) == after
        back = ("undo", receipt_of(done), "--allow", "dummy")
        plan = planned(tmp_path, *back)
        assert regnb(tmp_path, "apply", path, "--confirm", plan.code).returncode == 0
        assert state(small.url) == before


def test_what_writes_is_not_sent_by_itself(small: Distribution, tmp_path: Path) -> None:
    """Without a terminal and a file nothing is written, and what could not be undone is refused with its command."""
    before = state(small.url)
    done = request(tmp_path, "DELETE", MANIFEST, REGNB_URL=small.url)
    assert done.returncode == 0
    assert "Nothing was written" in done.stderr
    script = request(tmp_path, "DELETE", f"/v2/vm/centos8/manifests/{ONE.digest}", "--curl", REGNB_URL=small.url).stdout
    assert f"curl -sSf -X DELETE {small.url}/v2/vm/centos8/manifests/{ONE.digest}" in script
    blob = f"/v2/vm/centos8/blobs/{ONE.digest}"
    check_error(request(tmp_path, "DELETE", blob, REGNB_URL=small.url), "could not be put back", "curl -sS -X DELETE")
    check_error(request(tmp_path, "POST", "/v2/a/blobs/uploads/", REGNB_URL=small.url), "regnb copy")
    assert state(small.url) == before


def test_the_code_is_typed_at_a_terminal(small: Distribution, tmp_path: Path) -> None:
    """At a terminal the plan is shown, and applied if its code is typed."""
    before = state(small.url)
    path = f"/v2/vm/centos8/manifests/{ONE.digest}"
    with terminal(tmp_path, "request", "DELETE", path, "--url", small.url) as (process, read_until, keyboard):
        code = read_until("anything else to leave it:").rpartition("Type ")[2].split()[0]
        os.write(keyboard, f"{code}\n".encode())
        assert "1 of 1 row done" in read_until("")
        assert process.wait() == 0
    assert state(small.url) == delete(before)


def test_no_secret_is_kept(locked: Distribution, tmp_path: Path) -> None:  # noqa: F811
    """A password from the environment or the path's URL is in no output and no plan."""
    named = locked.url.replace("://", f"://me:{SECRET}@")
    fill(named, ("vm/centos8", "1", ONE))
    said = [
        request(tmp_path, "GET", f"{named}{MANIFEST}", "-i"),
        request(tmp_path, "GET", f"{named}{MANIFEST}", "--json"),
        request(tmp_path, "GET", MANIFEST, "--curl", "--user", "me", REGNB_URL=locked.url, REGNB_PASSWORD=SECRET),
        request(tmp_path, "DELETE", f"{named}{MANIFEST}", "--plan-out", str(tmp_path / "plan.json")),
        request(tmp_path, "DELETE", f"{named}/v2/vm/centos8/blobs/{ONE.digest}"),
    ]
    assert [done.returncode for done in said] == [0, 0, 0, 0, 1]
    assert "$AUTHORIZATION" in said[2].stdout
    assert "$AUTHORIZATION" in said[4].stderr
    assert Plan.load(tmp_path / "plan.json").authorized
    texts = [done.stdout + done.stderr for done in said] + [(tmp_path / "plan.json").read_text(encoding="utf-8")]
    assert not [text for text in texts if SECRET in text]


def test_a_curl_line_as_it_stands(small: Distribution, tmp_path: Path) -> None:
    """The host needs no scheme; a HEAD shows headers, a DELETE is planned, and a cut line or a variable is named."""
    done = request(tmp_path, f"curl -I {small.host}{MANIFEST}")
    assert f"docker-content-digest: {ONE.digest}" in done.stdout, done.stderr
    done = request(tmp_path, f"curl -X DELETE {small.host}/v2/vm/centos8/manifests/{TWO.digest}")
    assert "1 tag and 1 manifest will be gone" in done.stdout, done.stderr
    done = request(tmp_path, f"curl {small.host}/v2/_catalog?n=1&last=a")
    assert "never sends &last=a" in done.stderr
    check_error(request(tmp_path, "curl $HOST/v2/"), "shell variables are not known here: HOST")
    assert len(state(small.url)) == 3
