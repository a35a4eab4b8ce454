"""A page while it is made: its pieces as they come, how far it is, and an end when nobody waits or nothing answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from tornado.iostream import StreamClosedError
from voila.notebook_renderer import NotebookRenderer
from voila.utils import get_page_config

from regnb.pages.guard import Upstream
from regnb.pages.kernels import DIED

BEAT: Final = 2
"""Seconds after which a page that is being made says how far it is."""
_KERNELS: Final = 3
"""Kernels that a page is tried with, where one ends before it has made anything."""


class _Renderer(NotebookRenderer):  # type: ignore[misc]
    """Voilà's, of the notebook that the handler has filled in."""

    async def load_notebook(self, _: str) -> Upstream:
        return await self.fix_notebook(self.request_handler.filled)


class _Ended(Exception):
    """A page's kernel has ended.

    Attributes:
        begun: Whether something of the page was sent before.
    """

    def __init__(self, *, begun: bool) -> None:
        super().__init__("its kernel ended")
        self.begun = begun


async def send(handler: Upstream, name: str) -> None:
    """Send a page as it is made.

    Voilà's own way goes on for ever when the kernel has ended, and when nobody waits for the page any more.

    Args:
        handler: Of the page, with the notebook as ``filled``, ``told`` for a script that says how far it is, and
            ``gone``, a future that is done when the connection was closed.
        name: Of the notebook's file.
    """
    handler.set_header("Content-Type", "text/html; charset=utf-8")
    handler.set_header("Cache-Control", "no-store")
    for left in reversed(range(_KERNELS)):
        renderer = await _renderer(handler, name)
        kernel_id = await handler.kernel_manager.give(handler)
        try:
            await _send(handler, renderer, kernel_id)
        except _Ended as error:
            handler.log.warning("a page could not be made: %s", error)
            # Another process may have taken one of its ports, which were free when they were chosen.
            if left and not error.begun and handler.kernel_manager.take_back(handler, kernel_id):
                continue
            handler.write(handler.told(f"This page could not be made: {DIED}. Reload it."))
        return


async def _renderer(handler: Upstream, name: str) -> _Renderer:
    """Return what makes the page of a notebook."""
    about = {
        "base_url": handler.base_url,
        "voila_configuration": handler.voila_configuration,
    }
    renderer = _Renderer(
        request_handler=handler,
        traitlet_config=handler.traitlet_config,
        notebook_path=name,
        template_paths=handler.template_paths,
        config_manager=handler.config_manager,
        contents_manager=handler.contents_manager,
        kernel_spec_manager=handler.kernel_spec_manager,
        prelaunch_hook=None,
        page_config=get_page_config(**about, settings=handler.settings, log=handler.log),
        mathjax_config=handler.settings.get("mathjax_config"),
        mathjax_url=handler.settings.get("mathjax_url"),
        **about,
    )
    await renderer.initialize(theme=handler.get_query_argument("theme", None))
    return renderer


async def _send(handler: Upstream, renderer: Upstream, kernel_id: str) -> None:
    """Send the pieces of a page that a kernel makes.

    Raises:
        _Ended: The kernel has ended.
    """
    if kernel_id not in handler.kernel_manager:
        raise _Ended(begun=False)
    kernel = handler.kernel_manager.get_kernel(kernel_id)
    pieces = renderer.generate_content_generator(kernel_id, kernel)
    begun = False
    try:
        async for piece in _beaten(pieces, handler.gone):
            if piece is not None and not await kernel.is_alive():
                raise _Ended(begun=begun)
            begun = begun or piece is not None
            handler.write(handler.told() if piece is None else piece)
            await handler.flush()
    except RuntimeError:  # of whoever waits for its first answer
        raise _Ended(begun=begun) from None
    except StreamClosedError:
        handler.on_connection_close()
    finally:
        await pieces.aclose()
        if renderer.kernel_started:
            renderer.executor.kc.stop_channels()


async def _beaten(pieces: Upstream, gone: asyncio.Future[None]) -> AsyncIterator[str | None]:
    """Yield the pieces of a page, and None whenever one takes long; end where nobody waits for them any more."""
    while not gone.done():
        coming = asyncio.ensure_future(anext(pieces, None))
        try:
            while not coming.done() and not gone.done():
                await asyncio.wait({coming, gone}, timeout=BEAT, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done() and not gone.done():
                    yield None
        finally:
            if not coming.done():
                coming.cancel()
                with suppress(asyncio.CancelledError, RuntimeError):
                    await coming
        if gone.done() or (piece := coming.result()) is None:
            return
        yield piece[0]
