"""Many registries as one: what is read, what is a row, what is stored twice, and what a mirror lacks."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from distribution import Distribution, free_port
from images import fill, image, layer
from images import regnb as command
from proxied import interrupted_after, proxy
from scripted import Request

import regnb
from regnb.errors import ConnectionFailed, InvalidArgument, NotFound, StorageError
from regnb.fleets import Member, members

BASE = layer("base", 10_000)
ONE, TWO, THREE = (image([BASE, layer(number, 1_000 * number)]) for number in (1, 2, 3))


@pytest.fixture
def pair(distribution_program: None, tmp_path: Path) -> Iterator[tuple[Distribution, Distribution]]:
    """Debian's docker-registry twice; the second is to mirror the first below ``m/``."""
    with Distribution(tmp_path / "prod") as prod, Distribution(tmp_path / "mirror") as mirror:
        fill(prod.url, ("app", "1", ONE), ("app", "2", TWO), ("lib", "1", THREE))
        fill(mirror.url, ("m/app", "1", ONE), ("m/app", "2", THREE))
        yield prod, mirror


def written(folder: Path, prod: Distribution, mirror: Distribution, dead: str) -> Path:
    file = folder / "fleet.toml"
    file.write_text(
        f'[[registry]]\nname = "prod"\nurl = "{prod.url}"\n'
        f'[[registry]]\nname = "mirror"\nurl = "{mirror.url}"\nmirror_of = "prod"\nprefix = "m/"\n'
        f'[[registry]]\nname = "old"\nurl = "{dead}"\n'
        f'[[registry]]\nname = "disk"\nurl = "{prod.root}"\n'
    )
    return file


def test_what_several_registries_hold(pair: tuple[Distribution, Distribution], tmp_path: Path) -> None:
    """Each has its own inventory, equal to that read alone; one that is down is a row; frames say whose a row is."""
    dead = f"http://127.0.0.1:{free_port()}"
    found = regnb.fleet(written(tmp_path, *pair, dead))
    assert [*found] == ["prod", "mirror", "old", "disk"]
    assert found.registries["state"].to_list() == ["complete", "complete", "down", "complete"]
    assert not found.complete
    assert "old" in repr(found)
    with pytest.raises(ConnectionFailed):
        found["old"]
    with pytest.raises(NotFound, match="no registry 'new'"):
        found["new"]
    for name, registry in zip(("prod", "mirror"), pair, strict=True):
        with regnb.connect(registry.url) as handle:
            alone = handle.inventory(cached=False).frames
        assert alone.keys() == found[name].frames.keys()
        for frame, rows in alone.items():
            if frame != "coverage":  # which tells what came from the cache
                assert rows.drop(columns="checked", errors="ignore").equals(
                    found[name].frames[frame].drop(columns="checked", errors="ignore")
                ), (name, frame)
    assert found.frame("tags").groupby("registry", sort=False)["tag"].count().to_dict() == {
        "prod": 3,
        "mirror": 2,
        "disk": 3,
    }
    assert found.frame("repositories").columns[0] == "registry"
    with pytest.raises(InvalidArgument, match="no frame 'tag'"):
        found.frame("tag")


def test_what_is_stored_twice_and_what_a_mirror_lacks(pair: tuple[Distribution, Distribution]) -> None:
    """A blob of several registries counts once beyond its first copy; a mirror's missing and other tags are rows."""
    prod, mirror = pair
    found = regnb.fleet([
        Member("prod", prod.url), Member("mirror", mirror.url, mirror_of="prod", prefix="m/"),
    ])  # fmt: skip
    with regnb.connect(prod.url) as one, regnb.connect(mirror.url) as two:
        held = [set(each.inventory().blobs["digest"]) for each in (one, two)]
    assert set(found.twice["digest"]) == held[0] & held[1]
    first = found.twice.iloc[0]
    assert (first["size"], first["again"], first["names"]) == (len(BASE), len(BASE), "prod, mirror")
    rows = found.mirrors[["mirror", "state", "repository", "tag"]].to_numpy().tolist()
    assert rows == [["mirror", "missing", "lib", "1"], ["mirror", "drifted", "app", "2"]]
    assert (found.compare("prod", "mirror", prefix="m/")["state"] == "same").sum() == 1
    assert regnb.fleet({"prod": prod.url}).mirrors.empty
    assert regnb.fleet([f"http://127.0.0.1:{free_port()}"]).frame("tags").empty


def test_one_command_reads_them_all(pair: tuple[Distribution, Distribution], tmp_path: Path) -> None:
    """One that is down is exit code 4, a mirror that differs 3 where it is asked for; JSON holds every table."""
    file = str(written(tmp_path, *pair, f"http://127.0.0.1:{free_port()}"))
    done = command(tmp_path, "fleet", "--json", REGNB_FLEET=file)
    assert done.returncode == 4, done.stderr
    assert "Down: old" in done.stderr
    told = json.loads(done.stdout)
    assert [row["state"] for row in told["registries"]] == ["complete", "complete", "down", "complete"]
    assert [row["state"] for row in told["mirrors"]] == ["missing", "drifted"]
    done = command(
        tmp_path, "fleet", str(written(tmp_path, *pair, pair[0].url)), "--fail-on-drift", "--fail-on-problems",
        "--report", str(tmp_path / "fleet.html"),
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "mirror lib:1 missing" in done.stderr
    assert "Stored in several registries" in done.stdout
    page = (tmp_path / "fleet.html").read_text(encoding="utf-8")
    assert "drifted" in page
    assert "prod, mirror" in page
    assert 'id="plotly"' not in page
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "registry"),
        ("[[registry]]\nname = 'a'", "url"),
        ("[[registry]]\nname = 'a'\nurl = 'http://h'\npassword = 'x'", "password"),
        ("[[registry]\n", "not TOML"),
        ("[[registry]]\nname = 'a'\nurl = 'http://h'\nmirror_of = 'b'", "not in the fleet"),
        ("[[registry]]\nname = 'a'\nurl = 'http://h'\n" * 2, "two registries"),
        ("registry = []", "no registry"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """The error names the file and what is wrong; what could be a password is refused and not shown."""
    file = tmp_path / "fleet.toml"
    file.write_text(text)
    with pytest.raises(InvalidArgument, match=words):
        members(file)
    with pytest.raises(StorageError, match="cannot read"):
        members(tmp_path / "none.toml")


def test_an_interrupt_ends_every_reading(pair: tuple[Distribution, Distribution]) -> None:
    """No registry is sent a request after the interrupt came back."""
    asked = threading.Event()

    def slow(request: Request) -> None:
        if "manifests" in request.path:
            asked.set()
            time.sleep(0.3)

    with proxy(pair[0].host, slow) as one, proxy(pair[1].host, slow) as two:
        with interrupted_after(asked), pytest.raises(regnb.Interrupted):
            regnb.fleet([one.url, two.url], cached=False)
        sent = len(one.requests) + len(two.requests)
        time.sleep(1)
        assert len(one.requests) + len(two.requests) == sent
