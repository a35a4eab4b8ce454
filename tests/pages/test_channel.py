"""The channel of a page: what a message must be, how many there may be, and whose kernel it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
from browser import Site
from conftest import Seeded
from tornado.httpclient import HTTPClientError
from visitor import Visitor, packed

from regnb.pages.channel import LIMIT, Malformed, read

OPENED = {"comm_id": "1", "target_name": "jupyter.widget.control", "data": {}}


@pytest.fixture(scope="module")
def site(seeded_embedded: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("channel") / "ui.log", seeded_embedded.url) as found:
        yield found


def test_what_pages_send_is_read() -> None:
    """Its type, the comm that it is about, and what it opens."""
    found = read(packed("comm_open", OPENED))
    assert (found.kind, found.comm, found.target) == ("comm_open", "1", "jupyter.widget.control")
    assert read(packed("kernel_info_request", {})).kind == "kernel_info_request"


def test_what_no_page_sends_is_refused() -> None:
    """Text, other channels, and parts that are not where they should be: before anything is decoded."""
    whole = packed("comm_msg", {"comm_id": "1", "data": {}})
    for message in (
        json.dumps({"header": {"msg_type": "comm_msg"}}),
        b"",
        whole[:-1],
        whole + b" ",
        packed("comm_msg", {}, channel="stdin"),
        packed("x" * 5000, {}),
        packed("comm_msg", {"comm_id": 1}),
    ):
        with pytest.raises(Malformed):
            read(message)
    swapped = bytearray(whole)
    swapped[16:24], swapped[24:32] = whole[24:32], whole[16:24]
    with pytest.raises(Malformed, match="follow"):
        read(bytes(swapped))


async def closed(visitor: Visitor) -> int | None:
    """Wait for the end of a connection, and return its code."""
    with suppress(ConnectionError):
        while await visitor.heard():
            pass
    return visitor.socket.close_code


def asked(client: httpx.Client, method: str, url: str, **headers: str) -> int:
    """The status of an answer."""
    return client.request(method, url, headers=headers).status_code


def test_one_visitors_harm_stays_with_that_visitor(site: Site) -> None:
    """Who sends what no page sends, or too much, loses the page; the page of another goes on answering."""

    async def work() -> None:
        async with Visitor(site, "13-retention") as good:
            assert await good.widgets()
            for kind in ("text", "large", "many"):
                async with Visitor(site, "13-retention") as bad:
                    if kind == "text":
                        await bad.socket.write_message("{}")
                    elif kind == "large":
                        await bad.socket.write_message(bytes(LIMIT + 1), binary=True)
                    else:
                        for _ in range(500):
                            await bad.send("comm_info_request", {})
                    assert await closed(bad) in (1008, 1009), kind
                bad.client.close()
            await good.send("comm_info_request", {})
            while (await good.heard())[0] != "comm_info_reply":
                pass
        good.client.close()

    asyncio.run(work())


def test_a_page_makes_no_widgets_and_runs_no_code(site: Site) -> None:
    """What a page never asks for is left out, and the page stays; the state of all widgets is asked for a few times."""

    async def work() -> None:
        async with Visitor(site, "13-retention") as visitor:
            before = await visitor.widgets()
            await visitor.send("execute_request", {"code": "open('/tmp/never', 'w')", "silent": False})
            await visitor.send("shutdown_request", {"restart": False}, channel="control")
            state = {"_model_module": "@jupyter-widgets/controls", "_model_name": "TextModel"}
            made = {"comm_id": "made", "target_name": "jupyter.widget", "data": {"state": state}}
            await visitor.send("comm_open", made, metadata={"version": "2.1.0"})
            assert (await visitor.widgets()).keys() == before.keys()
            for _ in range(8):
                await visitor.send("comm_open", OPENED, metadata={"version": "1.0.0"})
            assert await closed(visitor) == 1008
        visitor.client.close()

    asyncio.run(work())
    assert "execute_request was left out" in site.printed()


def test_a_kernel_belongs_to_its_visitor(site: Site) -> None:
    """Another visitor, and a page of another site, cannot connect to it, ask how it is, or end it."""

    async def work() -> None:
        async with Visitor(site, "13-retention") as owner:
            with httpx.Client(timeout=600) as client:
                other = Visitor(site, "13-retention", client)
                origin = {"Origin": site.base.removesuffix("/ui/")}
                other.kernel = owner.kernel
                with pytest.raises(HTTPClientError, match="404"):
                    await other.connect()
                assert asked(client, "GET", f"{site.base}api/kernels/{owner.kernel}") == 404
                assert asked(client, "POST", f"{site.base}voila/api/shutdown/{owner.kernel}", **origin) == 404
            with pytest.raises(HTTPClientError, match="403"):
                await owner.connect(Origin="https://elsewhere.example")
            with pytest.raises(HTTPClientError, match="403"):
                await owner.connect(Origin="")
            with pytest.raises(HTTPClientError, match="403"):
                await owner.connect(Cookie="")
            assert await owner.widgets()
            assert asked(owner.client, "POST", f"{site.base}voila/api/shutdown/{owner.kernel}", **origin) == 204
        owner.client.close()

    asyncio.run(work())
