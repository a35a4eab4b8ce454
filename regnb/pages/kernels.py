"""The pages' kernels: one in reserve, only so many in all and for each visitor, and each belongs to who opened it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Final, NamedTuple

from jupyter_client.manager import KernelManager
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import Finish, HTTPError
from traitlets import Dict, Integer

from regnb.errors import InvalidArgument
from regnb.pages.guard import Upstream
from regnb.pages.rate_limit import RateLimit
from regnb.text import count

PAGES: Final = 20
"""Pages that may be open at once: each takes a kernel, and that about 100 MB."""
EACH: Final = 10
"""Pages that one visitor may have open at once."""

_WARM: Final = "from regnb.pages import charts; from regnb.widgets import forms, page, start; page.quiet(get_ipython())"
"""What a kernel does before a visitor comes."""
_LATER: Final = 3.0
"""Seconds until another kernel is started in reserve: the page that took the last one comes first."""
_KEPT: Final = 32 * 1024 * 1024
"""Bytes of messages that wait for a page that has lost its connection."""
_HELD: Final = 6
"""How many times as long a page stays that is open and not used as one that was left."""
_LEFT: Final = 60.0
"""Seconds without a connection after which a page gives its place to one that needs it: its browser has gone."""
DIED: Final = "the process of this page ended early, often for want of memory"
"""What a page is told then."""
_ENDED, _AWAY = "the page was closed", 1001
"""What a page is told whose kernel ends, and WebSocket's status for that."""
_READ_ONLY: Final = {"REGNB_READ_ONLY": "1"}


class Visitor(NamedTuple):
    """Who opens a page.

    Attributes:
        id: Of the cookie.
        address: Where the request came from.
        writes: Whether the page may apply plans.
    """

    id: str
    address: str
    writes: bool


class Kernels(AsyncMappingKernelManager):
    """The pages' kernels."""

    surroundings = Dict(config=True)
    most = Integer(PAGES, config=True)
    each = Integer(EACH, config=True)

    def __init__(self, **given: Upstream) -> None:
        base: Upstream = super()
        base.__init__(**given)
        self._reserve: dict[bool, list[str]] = {False: [], True: []}
        self._tasks: dict[object, asyncio.Task[Upstream]] = {}
        self._given: dict[str, Visitor] = {}
        self._opening: dict[object, Visitor] = {}
        self._sending: dict[object, str] = {}
        """Pages that are being made, and their kernels."""
        self._alone: dict[str, float] = {}
        """Of each kernel whose page was sent and has no connection, since when."""
        self.controls: defaultdict[str, set[str]] = defaultdict(set)
        """Of each kernel, the comms that ask for the state of all widgets."""
        self.channels: defaultdict[str, set[Upstream]] = defaultdict(set)
        """Of each kernel, its page's connections."""
        # A page that is reloaded again and again starts a kernel each time.
        self._starts = RateLimit(2 * self.each, 0.2)

    @property
    def pages(self) -> int:
        """How many pages are open, or about to."""
        return sum(1 for each in self._given if each in self) + len(self._opening)

    def take_room(self, page: object, visitor: Visitor) -> None:
        """Count a page that is about to open, until it has its kernel or gives up; raise if it is one too many."""
        self._given = {each: who for each, who in self._given.items() if each in self}
        self.controls = defaultdict(set, {each: known for each, known in self.controls.items() if each in self})
        self._alone = {each: since for each, since in self._alone.items() if each in self}
        held = [*self._given.values(), *self._opening.values()]
        many, full = [who.id for who in held].count(visitor.id) >= self.each, len(held) >= self.most
        least = self._left(visitor.id if many else "") if many or full else ""
        if many and not least:
            raise InvalidArgument(
                f"{self.each} of your pages are open, and no more are served to one visitor",
                hint="close one; a page that nobody looks at ends by itself",
            )
        if full and not least:
            least = self._superfluous(visitor, Counter(who.address for who in held))
        if full and not least:
            raise InvalidArgument(
                f"{self.most} pages are open, and no more are served at once",
                hint="close one; a page that nobody looks at ends by itself",
            )
        if not (self._starts.take(visitor.id) and self._starts.take(visitor.address)):
            raise InvalidArgument("you opened many pages in a short time", hint="wait a minute, and reload")
        if least:
            self.hang_up(least, "others need its place, and most pages were open at your address")
            self._given.pop(least)
            self.drop(least)
        self._opening[page] = visitor

    def _left(self, visitor: str) -> str:
        """Return the kernel of a page that was left longest ago, of this visitor or of "" for all; or "".

        A browser that crashed, or lost its network, did not say that it left the page. No page that may write gives
        way: it may be at work.
        """
        before = time.monotonic() - _LEFT
        pages = {
            each: self._given[each] for each, since in self._alone.items() if since < before and each in self._given
        }
        found = [each for each, who in pages.items() if visitor in ("", who.id) and not who.writes]
        return min(found, key=self._alone.__getitem__, default="")

    def _superfluous(self, visitor: Visitor, held: Mapping[str, int]) -> str:
        """Return the kernel whose page gives way to a visitor, or "".

        It is one of the address that has most pages, if that has more than the visitor's address would have: nobody
        takes all places with many cookies. It is the one that was not used for longest, and none that may write.
        """
        most = max(held.values())
        if held.get(visitor.address, 0) + 1 >= most:
            return ""
        pages = [
            each for each, who in self._given.items() if each in self and held[who.address] == most and not who.writes
        ]
        return min(pages, key=self._used, default="")

    def _used(self, kernel_id: str) -> datetime:
        """Return when a kernel last did something."""
        kernel: Upstream = self.get_kernel(kernel_id)
        found: datetime = kernel.last_activity
        return found

    def leave_room(self, page: object) -> None:
        """Know that a page was sent, or did not get as far as a kernel."""
        self._opening.pop(page, None)
        self._be_alone(self._sending.pop(page, ""))

    def give_up(self, page: object) -> None:
        """End the kernel of a page that nobody waits for any more: it was left before it was there."""
        self._opening.pop(page, None)
        self.drop(self._sending.pop(page, ""))

    def connect(self, kernel_id: str, channel: Upstream) -> None:
        """Know a connection of a page's."""
        self.channels[kernel_id].add(channel)
        self._alone.pop(kernel_id, None)

    def disconnect(self, kernel_id: str, channel: Upstream) -> None:
        """Know it no longer."""
        if kernel_id in self.channels:
            self.channels[kernel_id].discard(channel)
        self._be_alone(kernel_id)

    def _be_alone(self, kernel_id: str) -> None:
        if kernel_id in self and not self.channels[kernel_id]:
            self._alone[kernel_id] = time.monotonic()

    def belongs(self, kernel_id: str, visitor: str) -> bool:
        """Whether a kernel is that of a page of this visitor's."""
        owner = self._given.get(kernel_id)
        return owner is not None and owner.id == visitor and kernel_id in self

    def address(self, kernel_id: str) -> str:
        """Return where the visitor of a kernel's page came from, or "" if it is nobody's any more."""
        owner = self._given.get(kernel_id)
        return owner.address if owner else ""

    def connections(self, kernel_id: str) -> int:
        """Return how many connections a kernel's page has."""
        return int(self._kernel_connections.get(kernel_id, 0))

    async def end(self, visitor: str) -> None:
        """End the kernels of a visitor's pages."""
        for kernel_id in [each for each, who in self._given.items() if who.id == visitor and each in self]:
            self.hang_up(kernel_id, "you logged out")
            await self.finish(kernel_id)

    async def give(self, page: object) -> str:
        """Return the kernel in reserve, or a new one, for a page that has taken its room.

        Raises:
            Finish: Nobody waits for the page any more.
        """
        visitor = self._opening[page]
        alive = [each for each in self._reserve[visitor.writes] if each in self]
        self._reserve[visitor.writes] = alive[1:]
        kernel_id = alive[0] if alive else await self._start(writes=visitor.writes)
        if self._opening.pop(page, None) is None:
            self._put_by(kernel_id, writes=visitor.writes)
            raise Finish
        self._given[kernel_id], self._sending[page] = visitor, kernel_id
        self.refill(writes=visitor.writes, after=_LATER)
        return kernel_id

    def take_back(self, page: object, kernel_id: str) -> bool:
        """Take a kernel back that ended before it made anything of a page, and return whether another may be given."""
        self._sending.pop(page, None)
        visitor = self._given.pop(kernel_id, None)
        if visitor is not None:
            self._opening[page] = visitor
        return visitor is not None

    def refill(self, *, writes: bool, after: float = 0) -> None:
        """See to it that there will be a kernel in reserve."""

        async def work() -> None:
            await asyncio.sleep(after)
            if not self._reserve[writes]:
                self._put_by(await self._start(writes=writes), writes=writes)

        if writes not in self._tasks:
            self._keep(writes, work())

    def _put_by(self, kernel_id: str, *, writes: bool) -> None:
        """Keep a kernel in reserve, unless one is there."""
        if self._reserve[writes]:
            self.drop(kernel_id)
        else:
            self._reserve[writes].append(kernel_id)

    def drop(self, kernel_id: str) -> None:
        """End a kernel soon."""
        if kernel_id not in self._tasks and kernel_id in self:
            self._keep(kernel_id, self.finish(kernel_id))

    def hang_up(self, kernel_id: str, reason: str) -> None:
        """Close the connections with a kernel: none is held open to a page that has ended."""
        for channel in self.channels.pop(kernel_id, set()):
            channel.close(_AWAY, reason)

    def remove_kernel(self, kernel_id: str) -> KernelManager:
        """Forget a kernel that has ended, and close the connections with it."""
        self.hang_up(kernel_id, _ENDED)
        return super().remove_kernel(kernel_id)

    def _handle_kernel_died(self, kernel_id: str) -> None:
        self.log.warning("a page's kernel ended early, often for want of memory")
        self.hang_up(kernel_id, DIED)
        self.remove_kernel(kernel_id)

    async def finish(self, kernel_id: str) -> None:
        """End a kernel; its page may be left, logged out and in the way at the same moment."""
        manager: Upstream = super()
        try:
            await manager.shutdown_kernel(kernel_id, now=True)
        except HTTPError as error:
            if error.status_code != HTTPStatus.NOT_FOUND:
                raise

    def _keep(self, name: object, work: Coroutine[Upstream, Upstream, None]) -> None:
        task = self._tasks[name] = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def _start(self, *, writes: bool) -> str:
        arguments = [f"--IPKernelApp.exec_lines={_WARM}", "--log-level=ERROR"]
        env = dict(self.surroundings) | ({} if writes else _READ_ONLY)
        return str(await super().start_kernel(kernel_name="python3", env=env, extra_arguments=arguments))

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """End a kernel whose page was left, or is held open and not used; but none in reserve."""
        if any(kernel_id in kept for kept in self._reserve.values()):
            return
        kernel: Upstream = self.get_kernel(kernel_id)
        quiet, most = datetime.now(UTC) - self._used(kernel_id), _HELD * self.cull_idle_timeout
        if self.connections(kernel_id) and kernel.execution_state == "idle" and quiet.total_seconds() > most:
            self.hang_up(kernel_id, f"nobody used the page for {count(max(1, round(most / 60)), 'minute')}")
            await self.finish(kernel_id)
        else:
            base: Upstream = super()
            await base.cull_kernel_if_idle(kernel_id)

    def start_buffering(self, kernel_id: str, session_key: str, channels: Mapping[str, Upstream]) -> None:
        """Keep what a kernel says to a page that has lost its connection, up to a size; then nothing of it."""
        base: Upstream = super()
        base.start_buffering(kernel_id, session_key, channels)
        stop: Upstream = self.stop_buffering
        kept: list[tuple[str, list[bytes]]] = self._kernel_buffers[kernel_id]["buffer"]
        size = 0

        def keep(channel: str, parts: list[bytes]) -> None:
            nonlocal size
            size += sum(map(len, parts))
            kept.append((channel, parts))
            if size > _KEPT:
                stop(kernel_id)

        for channel, stream in channels.items():
            stream.on_recv(partial(keep, channel))
