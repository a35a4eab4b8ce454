"""Messages: who gets one, when, in which form; and nobody learns the webhook's URL."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import apprise
import pytest
from conftest import Seeded
from distribution import free_port
from images import regnb
from scripted import Reply, Request, Server, serve

from regnb.cli import alarm
from regnb.errors import InvalidArgument
from regnb.local.sandbox import Demo, demo_registry

SECRET = "canarysecretkey4711abcdefg"
"""26 letters and digits, as a Mattermost key has."""


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A webhook that takes everything; attempts follow each other at once."""
    monkeypatch.setattr(alarm, "_WAITS", (0.0, 0.0, None))
    with serve(lambda *_: Reply()) as server:
        yield server


@pytest.fixture
def writable_demo(tmp_path: Path) -> Iterator[Demo]:
    """The sample registry, for one test."""
    with demo_registry(tmp_path) as found:
        yield found


def bodies(hook: Server) -> list[dict[str, object]]:
    return [json.loads(each.body) for each in hook.seen("POST")]


def test_an_audit_says_what_it_found(seeded_embedded: Seeded, hook: Server, tmp_path: Path) -> None:
    """Nothing if all is well; else each reason, and the link; to an address of one's own as JSON."""
    url = f"{hook.url}/in?signature={SECRET}"
    done = regnb(tmp_path, "audit", seeded_embedded.url, REGNB_WEBHOOK=url)
    assert (done.returncode, hook.requests) == (0, [])
    done = regnb(
        tmp_path, "audit", seeded_embedded.url, "--fail-over", "1", "--webhook", url, "--link", "https://r.example/ui/"
    )
    assert done.returncode == 2
    (body,) = bodies(hook)
    assert hook.requests[0].path == f"/in?signature={SECRET}"
    assert "1 finding" in str(body["title"])
    assert body["lines"][0].startswith("Over the threshold")  # type: ignore[index]
    assert body["lines"][-1] == "https://r.example/ui/"  # type: ignore[index]
    assert SECRET not in done.stdout + done.stderr


def test_an_audit_that_fails_says_so(hook: Server, tmp_path: Path) -> None:
    """Nobody reads the log of a job that could not reach its registry."""
    done = regnb(tmp_path, "audit", "http://me:canary-1@127.0.0.1:9", REGNB_WEBHOOK=hook.url, REGNB_RETRIES="0")
    assert done.returncode == 1
    (body,) = bodies(hook)
    assert "http://127.0.0.1:9 failed" in str(body["title"])
    assert "canary-1" not in json.dumps(body)


def test_a_plan_that_waits_is_announced(seeded_embedded: Seeded, hook: Server, tmp_path: Path) -> None:
    """By night it is kept and announced, without its code; a person reads it, and applies it with the code."""
    policy, plan = tmp_path / "policy.toml", tmp_path / "plan.json"
    policy.write_text('[[rule]]\nrepositories = ["vm/*"]\nkeep_newest = 1\n')
    planned = ("retention", seeded_embedded.url, str(policy), "--plan-out", str(plan), "--webhook", hook.url)
    done = regnb(tmp_path, *planned)
    assert done.returncode == 0, done.stderr
    (body,) = bodies(hook)
    assert "waits for approval" in str(body["title"])
    assert f"regnb apply {plan}" in str(body["text"])
    code = done.stderr.strip().rpartition("--confirm ")[2].split()[0]
    assert code not in str(body["text"])
    read = regnb(tmp_path, "apply", str(plan))
    assert read.returncode == 1
    assert "vm/" in read.stdout
    assert code in read.stderr


def test_every_plan_in_a_file_is_announced(writable_demo: Demo, hook: Server, tmp_path: Path) -> None:
    """The plans of ``free`` and of a collection as well as those of a deletion or a policy; an empty one is not."""
    plan = str(tmp_path / "plan.json")
    stopped = f"http://127.0.0.1:{free_port()}"
    for words in (
        ("free", writable_demo.url, "100kB"),
        ("delete", writable_demo.url, "vm/centos8:8.3"),
        ("collect", str(writable_demo.storage), "--grace", "0h", "--endpoint", stopped),
    ):
        done = regnb(tmp_path, *words, "--plan-out", plan, REGNB_WEBHOOK=hook.url)
        assert done.returncode == 0, done.stderr
        assert "waits for approval" in str(bodies(hook)[-1]["title"]), words
        assert f"regnb apply {plan}" in str(bodies(hook)[-1]["text"])
    assert len(bodies(hook)) == 3
    read = regnb(tmp_path, "apply", plan)
    assert (read.returncode, "move to the trash" in read.stdout) == (1, True), "it is read before its code is asked for"
    done = regnb(
        tmp_path, "free", writable_demo.url, "100kB", "--keep", "99", "--plan-out", plan, REGNB_WEBHOOK=hook.url
    )
    assert done.returncode == 2, done.stderr
    assert len(bodies(hook)) == 3


def test_attempts_and_what_is_said_when_all_fail(
    seeded_embedded: Seeded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A busy service is asked again; one that refuses makes exit code 1, and neither logs nor words have the URL."""
    monkeypatch.setattr(alarm, "_WAITS", (0.0, 0.0, None))
    over = ("audit", seeded_embedded.url, "--fail-over", "1")
    with serve(lambda _, before: Reply(503 if before < 2 else 200)) as busy:
        assert regnb(tmp_path, *over, REGNB_WEBHOOK=busy.url).returncode == 2
        assert len(busy.requests) == 3

    def elsewhere(request: Request, _: int) -> Reply:
        return Reply(302, {"location": f"/other?from={request.path}"})

    caplog.set_level(logging.DEBUG)
    with serve(elsewhere) as gone:
        for url in (f"{gone.url}/x/{SECRET}", f"{gone.url}/hooks/{SECRET}", f"json://{gone.host}/x/{SECRET}"):
            gone.requests.clear()
            done = regnb(tmp_path, *over, REGNB_WEBHOOK=url)
            assert done.returncode == 1
            assert "could not be sent to 127.0.0.1" in done.stderr
            assert SECRET not in done.stdout + done.stderr + caplog.text
            assert [each.method for each in gone.requests] == ["POST"] * 3


def test_mattermost_gets_its_own_form(seeded_embedded: Seeded, hook: Server, tmp_path: Path) -> None:
    """The address that Mattermost shows is enough."""
    done = regnb(tmp_path, "audit", seeded_embedded.url, "--fail-over", "1", REGNB_WEBHOOK=f"{hook.url}/hooks/{SECRET}")
    assert done.returncode == 2
    assert hook.requests[0].path == f"/hooks/{SECRET}"
    assert "Over the threshold" in str(bodies(hook)[0]["text"])


@pytest.mark.parametrize(
    ("url", "service"),
    [
        (f"https://hooks.slack.com/services/TAAAAAAAA/BAAAAAAAA/{SECRET[:24]}", "NotifySlack"),
        (
            (
                "https://prod-01.westus.logic.azure.com:443/workflows/643e69f83c8944438d68119179a10a64/triggers/manual/"
                f"paths/invoke?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig={SECRET}"
            ),
            "NotifyWorkflows",
        ),
        (f"https://chat.example.com/hooks/{SECRET}", "NotifyMattermost"),
    ],
)
def test_services_are_known_by_their_addresses(
    url: str, service: str, seeded_embedded: Seeded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URL that Slack, Teams or Mattermost shows is sent to as that service wants it."""
    sent = []

    def notify(self: apprise.NotifyBase, body: str, **_: object) -> bool:
        sent.append((type(self).__name__, body))
        return True

    alarm.Alarm(url)  # the services are loaded with the first
    found = [one for one in apprise.plugins.N_MGR.plugins() if one.__name__ == service]
    monkeypatch.setattr(found[0], "notify", notify)
    done = regnb(tmp_path, "audit", seeded_embedded.url, "--fail-over", "1", REGNB_WEBHOOK=url)
    assert done.returncode == 2, done.stderr
    assert [name for name, _ in sent] == [service]
    assert sent[0][1].startswith("Over the threshold")


def test_an_unknown_kind_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    """And is not repeated, for it may be a secret with a typing error."""
    with pytest.raises(InvalidArgument):
        alarm.Alarm(f"nothing://{SECRET}")
    done = regnb(tmp_path, "audit", "http://127.0.0.1:9", "--webhook", f"nothing://{SECRET}")
    assert done.returncode == 1
    assert SECRET not in done.stdout + done.stderr
