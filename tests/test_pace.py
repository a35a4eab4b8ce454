"""How fast regnb asks after a registry has said that it was too fast."""

from __future__ import annotations

import time
from math import inf

import pytest
from clock import Clock

from regnb.wire.pace import Pace


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
