"""The channel between a page and its kernel: what a message must be before the server or the kernel reads it."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

import msgspec
from jupyter_server.base.handlers import APIHandler
from jupyter_server.services.kernels.handlers import KernelHandler
from msgspec import Struct
from tornado.iostream import StreamBufferFullError
from tornado.web import HTTPError
from tornado.websocket import WebSocketClosedError
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

from regnb.pages.guard import Upstream
from regnb.pages.kernels import Kernels
from regnb.pages.rate_limit import RateLimit
from regnb.pages.visit import Guarded, Visits

LIMIT: Final = 1024 * 1024
"""Bytes of a message."""
PROTOCOL: Final = "v1.kernel.websocket.jupyter.org"
"""The one way of writing messages that is taken: the parts are told apart without reading them."""
CONTROL: Final = "jupyter.widget.control"
"""What a page may open: the comm over which it asks for the state of all widgets, once."""

_MESSAGES: Final = RateLimit(400, 40)
"""Of one kernel; a page that is typed in sends some ten in a second."""
_ALL_MESSAGES: Final = RateLimit(1600, 160)
"""Of all pages of an address."""
_OPENINGS: Final = RateLimit(8, 0.1)
"""Comms that a page opens: the answer is the state of all of its widgets."""
_TYPES: Final = ("comm_open", "comm_msg", "comm_close", "comm_info_request", "kernel_info_request")
_WORD: Final = 8
_PARTS: Final = 6
"""Where channel, header, parent header, metadata and content begin, and where the last ends."""
_BUFFERS: Final = 64
_HEADER: Final = 4_096
_SESSIONS: Final = 3
"""Connections of one page: one that is lost may be there still when the next one comes."""
_SESSION: Final = re.compile(r"[\w-]{1,64}")
_VIOLATION: Final = 1008
"""WebSocket's status for a message that breaks the rules."""


class _Header(Struct):
    msg_type: str
    msg_id: str
    session: str


class _Content(Struct):
    comm_id: str = ""
    target_name: str = ""


class Message(Struct, frozen=True):
    """What was read of a message.

    Attributes:
        kind: Its type.
        comm: The comm that it is about, or "".
        target: What it opens, or "".
    """

    kind: str
    comm: str = ""
    target: str = ""


class Malformed(Exception):
    """A message that no page sends."""


def read(message: bytes | str) -> Message:
    """Return what a message is; its own parts are not decoded beyond that.

    Args:
        message: As it came, in the protocol :data:`PROTOCOL`.

    Raises:
        Malformed: It is none.

    Example:
        >>> read(b"")
        Traceback (most recent call last):
            ...
        regnb.pages.channel.Malformed: too short
    """
    if not isinstance(message, bytes):
        raise Malformed("text")
    if len(message) < _WORD:
        raise Malformed("too short")
    number = int.from_bytes(message[:_WORD], "little")
    begin = _WORD * (number + 1)
    if not _PARTS <= number <= _PARTS + _BUFFERS or begin > len(message):
        raise Malformed("a number of parts that no page sends")
    places = [int.from_bytes(message[place : place + _WORD], "little") for place in range(_WORD, begin, _WORD)]
    if places[0] != begin or places[-1] != len(message) or places != sorted(places):
        raise Malformed("parts that do not follow each other")
    channel, header, _, _, content = (message[first:end] for first, end in pairwise(places[:_PARTS]))
    if channel not in (b"shell", b"control") or len(header) > _HEADER:
        raise Malformed("a channel or a header that no page sends")
    try:
        kind = msgspec.json.decode(header, type=_Header).msg_type
        if not kind.startswith("comm_") or kind == "comm_info_request":
            return Message(kind)
        about = msgspec.json.decode(content, type=_Content)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise Malformed("a header or a content that is not as it should be") from None
    return Message(kind, about.comm_id, about.target_name)


class Channel(Guarded, VoilaKernelWebsocketHandler):  # type: ignore[misc]
    """A page's connection with its kernel; whoever breaks the rules loses both."""

    refused = False

    @property
    def kernels(self) -> Kernels:
        """The pages' kernels."""
        found: Kernels = self.settings["kernel_manager"]
        return found

    async def get(self, kernel_id: str) -> None:
        """Open it, for the visitor whose page it is."""
        _check_owner(self, kernel_id)
        if PROTOCOL not in self.request.headers.get("Sec-WebSocket-Protocol", ""):
            raise HTTPError(400)
        if not _SESSION.fullmatch(self.get_argument("session_id", "")):
            raise HTTPError(400)
        if self.kernels.connections(kernel_id) >= _SESSIONS:
            raise HTTPError(429)
        await super().get(kernel_id)

    async def open(self, kernel_id: str) -> None:
        """Be known as a connection of this kernel's."""
        self.kernels.connect(kernel_id, self)
        await super().open(kernel_id)

    def on_close(self) -> None:
        """Be known no longer."""
        self.kernels.disconnect(self.kernel_id, self)
        super().on_close()

    def on_message(self, message: bytes | str) -> None:
        """Hand a message on, if it is one that pages send, and not too many of them."""
        visits: Visits = self.settings["visits"]
        if self.refused:
            return
        if not visits.admits(self.current_user.username):
            self.close(_VIOLATION, "logged out")
            return
        try:
            found = read(message)
        except Malformed as fault:
            self._refuse(str(fault))
            return
        controls = self.kernels.controls[self.kernel_id]
        if not (_MESSAGES.take(self.kernel_id) and _ALL_MESSAGES.take(self.kernels.address(self.kernel_id))):
            self._refuse("too many messages")
        elif found.kind not in _TYPES or (found.kind == "comm_open" and found.target != CONTROL):
            self.log.warning("a message of type %s was left out", found.kind[:40])
        elif (found.kind == "comm_open" or found.comm in controls) and not _OPENINGS.take(self.kernel_id):
            self._refuse("too many questions for all widgets")
        else:
            if found.kind == "comm_open":
                controls.add(found.comm)
            super().on_message(message)

    def write_message(self, message: Upstream, binary: bool = False) -> Upstream:  # noqa: FBT001, FBT002 -- tornado's
        """Send, unless the page takes nothing of what was sent before."""
        try:
            return super().write_message(message, binary)
        except StreamBufferFullError:
            self._refuse("it takes nothing of what it asks for")
        except WebSocketClosedError:
            pass  # the page was told why
        return None

    def _refuse(self, reason: str) -> None:
        if self.refused:
            return
        self.refused = True
        self.log.warning("%s: a page's kernel is ended: %s", self.request.remote_ip, reason)
        self.close(_VIOLATION, reason)
        self.kernels.drop(self.kernel_id)


class Kernel(Guarded, KernelHandler):
    """Says how a page's kernel is, to its visitor."""

    SUPPORTED_METHODS = ("GET",)

    async def get(self, kernel_id: str) -> None:
        """Say it, unless the kernel is another visitor's."""
        _check_owner(self, kernel_id)
        get: Upstream = super().get
        await get(kernel_id)


class Shutdown(Guarded, APIHandler):
    """Ends a page's kernel when the page is left."""

    async def post(self, kernel_id: str) -> None:
        """End it, unless it is another visitor's."""
        _check_owner(self, kernel_id)
        kernels: Upstream = self.kernel_manager
        await kernels.finish(kernel_id)
        self.set_status(204)
        self.finish()


def _check_owner(handler: Upstream, kernel_id: str) -> None:
    """Raise 404 unless a kernel is that of a page of a request's visitor."""
    if handler.current_user is None or not handler.kernel_manager.belongs(kernel_id, handler.current_user.username):
        raise HTTPError(404)
