"""How many requests are under way at once: growth, brakes, and what is remembered of a registry."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from threading import Lock

import anyio
import pytest
import scripted
from clock import Clock
from scripted import Reply, Request

import regnb
from regnb.errors import InvalidArgument, ServerFailed
from regnb.wire import pace as module
from regnb.wire.cache import Cache
from regnb.wire.pace import Pace
from regnb.wire.transport import Transport

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Simulation:
    """A registry whose answers take as long as they do, in a time of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pace: Pace) -> None:
        self.pace = pace
        self.now = 0.0
        self.most = [pace.limit]
        self.due: list[Callable[[], object]] = []
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(module.asyncio, "get_running_loop", lambda: self)
        pace._waiting = [None] * 8  # type: ignore[assignment] - there is always more to do
        monkeypatch.setattr(pace, "_admit", lambda **_: None)

    def call_later(self, _: float, work: Callable[[], object]) -> None:
        """Do something at the end of a round."""
        self.due.append(work)

    def run(self, seconds: float, latency: float, at_once: int = 1000) -> None:
        """Answer for so long, ``at_once`` requests beside each other at most: more of them wait."""
        until = self.now + seconds
        while self.now < until:
            limit = self.pace.limit
            took = latency * max(1.0, limit / at_once)
            for _ in range(limit):
                self.now += took / limit
                self.pace.succeeded(took)
            while self.due:
                self.due.pop()()
            self.most.append(self.pace.limit)


def test_the_pace_grows_with_a_distant_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 50 ms there are 128 requests at once after two seconds, and never five more within one answer's time."""
    simulation = Simulation(monkeypatch, Pace(8, 128))
    simulation.run(2, 0.05)
    assert simulation.pace.limit == 128
    assert max(after - before for before, after in zip(simulation.most, simulation.most[1:], strict=False)) <= 4


@pytest.mark.parametrize("most", [9, 21, 48])
async def test_a_pace_that_grows_is_refused_at_most_five_requests(most: int) -> None:
    """Requests go out in bursts, some on new connections: four too many, and one in place of the first refused one."""
    pace, busy, refused, known = Pace(8, 128), 0, 0, 0.0

    async def work() -> None:
        nonlocal busy, refused, known
        while not known or time.monotonic() < known + 0.05:
            began = time.monotonic()
            first = await pace.enter()
            try:
                if first:
                    await asyncio.sleep(0.003)
                    began = time.monotonic()
                much = busy >= most
                busy += not much
                await asyncio.sleep(0.02)
                busy -= not much
                if not much:
                    pace.succeeded(0.02)
            finally:
                pace.leave(first=first)
            if much:
                refused += 1
                known = known or time.monotonic()
                pace.limited(0.0, began)
                return

    async with anyio.create_task_group() as group:
        for _ in range(most + 16):
            group.start_soon(work)
    assert 1 <= refused <= 5
    assert pace.limit <= most


@pytest.mark.parametrize("at_once", [1, 10])
def test_where_requests_wait_there_are_a_few_more_and_no_hundred(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """A registry that answers one or ten at once always has the next ones, and those for a second only wait."""
    simulation = Simulation(monkeypatch, Pace(8, 128))
    simulation.run(10, 0.005, at_once)
    assert 24 <= simulation.pace.limit <= 40


def test_after_a_429_requests_at_once_and_in_a_second_stay_below(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst of 429s counts once; neither number grows back, however well it goes."""
    simulation = Simulation(monkeypatch, Pace(8, 128))
    simulation.run(3, 0.05)
    began = simulation.now
    simulation.now += 0.05
    for _ in range(3):
        simulation.pace.limited(0.0, began)
    assert (simulation.pace.limit, simulation.pace.refused) == (96, True)
    assert 0.7 * 128 / 0.1 < simulation.pace.rate < 0.8 * 128 / 0.05
    simulation.run(3, 0.05)
    assert simulation.pace.limit == 96


async def test_a_rate_is_kept() -> None:
    """Requests of a pace with a rate begin no faster than that."""
    pace = Pace(8, 8)
    pace.remember(8, 100.0)
    began = time.monotonic()

    async def one() -> None:
        await pace.enter()
        pace.leave()

    async with anyio.create_task_group() as group:
        for _ in range(21):
            group.start_soon(one)
    assert time.monotonic() - began >= 0.19
    assert pace.busy == 0


def test_the_next_connection_starts_below_what_was_refused(tmp_path: Path) -> None:
    """A registry that takes three requests at once says 429; the next connection starts with what it took then."""
    lock, under_way, left = Lock(), [0], []

    def answer(_: Request, __: int) -> Reply:
        with lock:
            under_way[0] += 1
            much = under_way[0] > 3
        time.sleep(0.01)
        with lock:
            under_way[0] -= 1
        return Reply(429, {"Retry-After": "0"}) if much else Reply(200, body=b'{"repositories":[],"tags":[]}')

    async def many(transport: Transport) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(60):
                group.start_soon(transport.request, "GET", "/v2/_catalog")

    with scripted.serve(answer) as server:
        for number in range(2):
            with regnb.connect(server.url, cache=tmp_path) as registry:
                transport = registry._client.transport
                if number == 0:
                    registry._run(lambda: many(transport))  # noqa: B023 - it runs at once
                left.append((transport.pace.limit, transport.pace.most))
    assert left[0] == left[1]
    assert left[0][0] < 8
    other = Cache(tmp_path)
    assert other.pace("elsewhere") is None
    other.close()


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "soon"])
def test_a_timeout_that_is_none(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """What is not a positive number of seconds is refused before anything is sent."""
    monkeypatch.setenv("REGNB_TIMEOUT", given)
    with pytest.raises(InvalidArgument, match="timeout"):
        regnb.connect("http://127.0.0.1:1")
    with pytest.raises(InvalidArgument, match="timeout"):
        regnb.connect("http://127.0.0.1:1", timeout=-1)


def test_the_timeout_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds come from the environment where the caller gives none."""
    monkeypatch.setenv("REGNB_TIMEOUT", "7")
    with scripted.serve(lambda *_: Reply(200, body=b"{}")) as server:
        for asked, seconds in ((None, 7), (9, 9)):
            with regnb.connect(server.url, cache=False, timeout=asked) as registry:
                assert registry._client.transport._seconds == seconds


@pytest.mark.parametrize(("given", "sent"), [("0", 1), ("1", 2), ("", 3)])
def test_how_often_a_read_is_sent_again(monkeypatch: pytest.MonkeyPatch, given: str, sent: int) -> None:
    """As often as the environment says, or the caller; without either a 500 is asked about three times."""

    async def at_once(_: float) -> None:
        """Spare the wait."""

    monkeypatch.setattr(module.anyio, "sleep", at_once)
    monkeypatch.setenv("REGNB_RETRIES", given)
    with scripted.serve(lambda request, _: Reply(200 if request.path == "/v2/" else 500, body=b"{}")) as server:
        for asked in (None, int(given) if given else None):
            with regnb.connect(server.url, cache=False, retries=asked) as registry:
                before = len(server.requests)
                with pytest.raises(ServerFailed):
                    registry.tag_names("a")
                assert len(server.requests) - before == sent


@pytest.mark.parametrize("given", ["-1", "many", "1.5", "101"])
def test_a_number_of_retries_that_is_none(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """What is not a number from 0 to 100 is refused before anything is sent."""
    monkeypatch.setenv("REGNB_RETRIES", given)
    with pytest.raises(InvalidArgument, match="retries"):
        regnb.connect("http://127.0.0.1:1")


def answers(pace: Pace, clock: Clock, count: int, apart: float) -> None:
    for _ in range(count):
        clock.forward(apart)
        pace.succeeded(0.01)


def test_after_a_429_fewer_requests_are_sent_in_a_second() -> None:
    """The pace stays below the requests a second that were too many."""
    with Clock() as clock:
        pace = Pace(8, 8)
        answers(pace, clock, 100, apart=0.1)
        pace.limited(0.0, time.monotonic())
    assert 6.5 < pace.rate < 8.5


@pytest.mark.parametrize(("before", "after"), [(100, 0), (20, 12)])
def test_a_pause_does_not_count_as_slow_answers(before: int, after: int) -> None:
    """A 429 after an hour without requests does not slow the following requests down for a day."""
    with Clock() as clock:
        pace = Pace(8, 8)
        answers(pace, clock, before, apart=0.1)
        clock.forward(3600)
        answers(pace, clock, after, apart=0.1)
        pace.limited(0.0, time.monotonic())
    assert pace.rate == inf


def test_repeated_429s_leave_a_request_a_second() -> None:
    """A registry that answers 429 again and again, as with a daily quota, is not asked ever more slowly."""
    with Clock() as clock:
        pace = Pace(8, 8)
        for _ in range(100):
            answers(pace, clock, 100, apart=max(0.01, 1 / pace.rate))
            clock.forward(1 / pace.rate)
            pace.limited(0.0, time.monotonic())
    assert pace.rate > 0.5
