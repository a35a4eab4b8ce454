"""Listings in pages: the catalog, tags and referrers, to the end and no further."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Final
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET, Struct, UnsetType

from regnb.errors import ContentError, TooLarge
from regnb.oci.manifest import Descriptor
from regnb.wire.addresses import FRONT, below, join
from regnb.wire.answers import expect, not_a_registry
from regnb.wire.capabilities import Capabilities, Name
from regnb.wire.channel import Channel
from regnb.wire.failures import unproven
from regnb.wire.messages import Response

PAGE_LIMIT = 100_000
"""Pages of one listing. At the usual 100 entries a page that is ten million: whoever sends more will never end."""
LIST_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of one page: distribution 2.8 puts all the tags of a repository into one."""
_NEXT: Final = re.compile(r"""<([^<>]*)>\s*;(?:[^,"]|"[^"]*")*?\brel\s*=\s*"?next\b""", re.IGNORECASE)


class Page(Struct):
    """One page of a listing, whichever it is."""

    name: object = UNSET
    repositories: list[str] | UnsetType | None = UNSET
    tags: list[str] | UnsetType | None = UNSET
    manifests: list[Descriptor] | UnsetType | None = UNSET

    @property
    def listing(self) -> bool:
        """Whether it is one: null is a registry's word for an empty list, and an empty object is nobody's."""
        return any(each is not UNSET for each in (self.name, self.repositories, self.tags, self.manifests))


_page: Final = msgspec.json.Decoder(Page)


def next_page(link: str) -> str:
    """Return the URL of the next page that a header Link names, or "".

    Example:
        >>> next_page('</v2/_catalog?n=2&last=b>; rel="next"')
        '/v2/_catalog?n=2&last=b'
    """
    found = _NEXT.search(link)
    return found[1] if found else ""


async def pages(
    transport: Channel,
    capabilities: Capabilities,
    path: str,
    size: int | None,
    *,
    scope: tuple[str, ...],
    params: Mapping[str, str] | None = None,
    paged: Name | None = None,
) -> AsyncIterator[Page]:
    """Follow Link to the end ("Listing Tags"), trusting no page to bring that end nearer.

    Args:
        transport: How requests get there.
        capabilities: Where it is noted that the registry has pages.
        path: Of the listing.
        size: Entries to ask for at once, or None.
        scope: What a token must allow.
        params: Of the query.
        paged: What is noted.

    Raises:
        ContentError: The pages go in circles or lead elsewhere.
        TooLarge: They do not end.
        Unproven: The answer is not a listing.
    """
    query = {**(params or {}), **({} if size is None else {"n": str(size)})}
    url = f"{path}?{urlencode(query)}" if query else path
    seen = {url}
    previous: Page | None = None
    asked_on = False
    for number in range(PAGE_LIMIT):
        response = await transport.request("GET", url, scope=scope, limit=LIST_LIMIT, kind="list")
        if response.status == 400 and number == 0 and size is not None:
            # distribution 3 refuses an n over its own maximum, which it does not tell.
            size, url = None, path
            response = await transport.request("GET", url, scope=scope, limit=LIST_LIMIT, kind="list")
        expect(response, transport.url, 200)
        page = _decode(response)
        if not page.listing:
            raise unproven(response, "an object that is not a list", transport.url)
        if page == previous:
            if asked_on:
                return  # the question was not understood, so there was nothing to ask for
            raise ContentError(f"{path}: the registry sends the same page again and again", hint=FRONT)
        yield page
        previous, asked_on = page, False
        if link := next_page(response.headers.get("link", "")):
            url = below(join(response.url, link), transport.url)
            if paged and number == 0:
                each = len(page.repositories or page.tags or ())
                capabilities.note(paged, "yes", "a Link to the next page", f"{each} a page")
            if not transport.owns(url):
                raise ContentError(
                    f"{path}: the next page is at another server",
                    hint="regnb did not follow the link; check the proxy before the registry",
                )
        else:
            entries = page.repositories or page.tags or []
            if size is None or len(entries) != size:
                return
            # A full page without a Link can be a silent cut (by go-containerregistry's): ask what comes next.
            url, asked_on = f"{path}?{urlencode({**query, 'last': entries[-1]})}", True
        if url in seen:
            raise ContentError(f"{path}: the registry's pages go in a circle", hint=FRONT)
        seen.add(url)
    raise TooLarge(f"{path}: more than {PAGE_LIMIT:,} pages", hint=FRONT)


def _decode(response: Response) -> Page:
    if response.html:
        raise not_a_registry(response)
    try:
        return _page.decode(response.data)
    except RecursionError:
        raise ContentError(f"{response.url}: the answer is nested too deeply", hint=FRONT) from None
    except (msgspec.MsgspecError, ValueError) as error:
        text = f"{response.url}: not the JSON that the registry API asks for: {str(error)[:200]}"
        raise ContentError(text, hint=FRONT) from None
