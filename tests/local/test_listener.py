"""What docker-registry notifies of is recorded; strangers, floods and nonsense are not."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from distribution import Distribution, free_port
from images import ask, fill, image, layer

from regnb.analysis.pulls import History
from regnb.errors import Busy, InvalidArgument, StorageError
from regnb.local.listener import BODY_LIMIT, Listener
from regnb.wire.client import Client

TOKEN = "only-for-this-test"


def post(url: str, body: bytes, method: str = "POST", **headers: str) -> int:
    connection = http.client.HTTPConnection(url.partition("://")[2], timeout=10)
    connection.request(method, "/", body, {name.replace("_", "-"): value for name, value in headers.items()})
    status = connection.getresponse().status
    connection.close()
    return status


async def fetch(path: str, headers: dict[str, str], client: Client) -> None:
    assert (await client.transport.request("GET", path, headers=headers)).status == 200


def test_a_real_registry_tells_what_is_pulled(distribution_program: None, tmp_path: Path) -> None:
    """docker-registry's notifications, with a token, become the last pulls by tag and by digest; pushes do not."""
    history, port = tmp_path / "pulls.parquet", free_port()
    endpoint = {
        "name": "regnb", "url": f"http://127.0.0.1:{port}", "headers": {"Authorization": [f"Bearer {TOKEN}"]},
        "timeout": "5s", "threshold": 3, "backoff": "1s",
    }  # fmt: skip
    one, two = image([layer(1, 100)]), image([layer(2, 100)])
    with (
        Listener(history, port=port, token=TOKEN).listening() as listener,
        Distribution(tmp_path, config={"notifications": {"endpoints": [endpoint]}}) as registry,
    ):
        fill(registry.url, ("team/app", "1.0", one), ("team/app", "2.0", two))
        for target in ("1.0", str(one.digest)):
            headers = {"Accept": one.media_type, "User-Agent": "docker"}  # regnb's own are no pulls
            path = f"/v2/team/app/manifests/{target}"
            ask(registry.url, partial(fetch, path, headers))
        registry.stop()  # which sends what it still has
        assert listener.received > 2
    found = History.load(history)
    assert set(found.last) == {("team/app", "1.0"), ("team/app", str(one.digest))}
    assert len(found.periods) == 1


def told(name: str) -> bytes:
    target = {"repository": name, "tag": "1", "mediaType": "application/vnd.oci.image.manifest.v1+json"}
    return json.dumps({"events": [{"action": "pull", "timestamp": "2026-11-29T10:00:00Z", "target": target}]}).encode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_what_was_answered_is_not_lost_however_it_ends(number: signal.Signals, tmp_path: Path) -> None:
    """The history has each answered pull when the listener has ended; after a kill, when the next one has started."""
    history = tmp_path / "pulls.parquet"
    command = [sys.executable, "-m", "regnb", "listen", "--history", str(history), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        words = process.stderr.readline().split()
        url = next(word for word in words if word.startswith("http://"))
        assert [post(url, told(name)) for name in ("a", "b")] == [200, 200]
        process.send_signal(number)
        assert process.wait(30) == (-number if number == signal.SIGKILL else 0)
    if number == signal.SIGKILL:
        with Listener(history).listening():
            pass
    assert {*History.load(history).last} == {("a", "1"), ("b", "1")}
    assert not [*tmp_path.glob("*.events-*")]


def test_an_event_that_cannot_be_recorded_is_not_taken(tmp_path: Path) -> None:
    """Where nothing can be written the registry is told to come again; then the event is taken."""
    history = tmp_path / "pulls" / "pulls.parquet"
    history.parent.mkdir()
    with Listener(history).listening() as listener:
        away = history.parent.rename(tmp_path / "away")
        assert post(listener.url, told("a")) == 503
        away.rename(history.parent)
        assert post(listener.url, told("b")) == 200
        assert listener.received == 1
    assert {*History.load(history).last} == {("b", "1")}


def test_a_history_has_one_listener(tmp_path: Path) -> None:
    """A second one is refused as long as the first one listens; no folder is made for a name that is mistyped."""
    history = tmp_path / "pulls.parquet"
    with Listener(history).listening(), pytest.raises(Busy, match="another regnb listen"):
        Listener(history)
    with pytest.raises(StorageError, match="No such file"):
        Listener(tmp_path / "typo" / "pulls.parquet")
    assert not (tmp_path / "typo").exists()
    with Listener(history).listening():
        pass


def test_strangers_and_nonsense_are_refused(tmp_path: Path) -> None:
    """Without the token 401, too large 413, no notifications 400, GET 405, a web page 403; the history stays empty."""
    history = tmp_path / "pulls.parquet"
    body = told("a")
    good = {"Authorization": f"Bearer {TOKEN}"}
    with Listener(history, token=TOKEN).listening() as listener:
        assert post(listener.url, body) == 401
        assert post(listener.url, body, Authorization="Bearer other") == 401
        assert post(listener.url, b"{", **good) == 400
        assert post(listener.url, b"", **good, Content_Length=str(BODY_LIMIT + 1)) == 413
        assert post(listener.url, b"", method="GET") == 405
        assert post(listener.url, body, **good, Origin="https://elsewhere.example") == 403
        # Who opens connections and says nothing takes none of the others' turns for long.
        silent = [socket.create_connection(("127.0.0.1", int(listener.url.rpartition(":")[2]))) for _ in range(8)]
        assert post(listener.url, body, **good) == 200
        for each in silent:
            each.close()
        assert listener.received == 1
    assert set(History.load(history).last) == {("a", "1")}


@pytest.mark.parametrize(
    ("host", "token", "text"),
    [
        ("0.0.0.0", "", "everyone who can reach 0.0.0.0"),  # noqa: S104 -- it is refused
        ("127.0.0.1", "short", "fewer than 16"),
        ("192.0.2.1", TOKEN, "cannot listen"),
    ],
)
def test_it_does_not_listen_where_anybody_could_write(host: str, token: str, text: str, tmp_path: Path) -> None:
    """An address of the network takes a token, a token has a length, and the address must be this machine's."""
    with pytest.raises(InvalidArgument, match=text):
        Listener(tmp_path / "pulls.parquet", host=host, token=token)


def test_a_history_that_is_none_is_told_at_once(tmp_path: Path) -> None:
    """The file is looked at before the port is opened."""
    path = tmp_path / "pulls.parquet"
    path.write_text("hello")
    with pytest.raises(StorageError, match="is not a history"):
        Listener(path)
