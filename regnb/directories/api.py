"""A vendor's API beside the registry API: JSON over the registry's own transport, with its login."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from regnb.errors import ContentError, Denied, NotFound, RateLimited, RegistryError, TooLarge, Unauthorized, Unsupported
from regnb.text import redact
from regnb.wire.addresses import join, origin
from regnb.wire.authentication import Challenge, parse_challenges
from regnb.wire.credentials import Credentials
from regnb.wire.failures import failure, raise_for
from regnb.wire.messages import Response
from regnb.wire.pages import LIST_LIMIT, PAGE_LIMIT, next_page
from regnb.wire.transport import Transport

_T = TypeVar("_T")
_SHOWN: Final = 200


@dataclass(frozen=True)
class Sight:
    """What a registry's ping showed, and how to ask it more.

    Attributes:
        transport: Of the registry.
        headers: Of the last answer to ``/v2/``; their names in lower case.
        challenge: Of the 401 that came first, if one did.
        size: Bytes of the last answer's body, as it was announced; None where nothing was.
    """

    transport: Transport
    headers: Mapping[str, str] = field(default_factory=dict)
    challenge: Challenge | None = None
    size: int | None = None

    @property
    def url(self) -> str:
        """The registry's, with its path if it has one."""
        return self.transport.url

    @property
    def hostname(self) -> str:
        """The registry's host name, without a port."""
        return urlsplit(self.url).hostname or ""

    @property
    def service(self) -> str:
        """The service that the challenge names, or ""."""
        return self.challenge.parameters.get("service", "") if self.challenge else ""

    @property
    def realm(self) -> str:
        """The address of the token server that the challenge names, or ""."""
        return self.transport.auth.realm

    async def login(self, repository: str = "") -> Credentials | None:
        """Return the login that the registry is given, or None."""
        return await self.transport.auth.credentials(repository)


def sight(transport: Transport) -> Sight | None:
    """Return what the answers to ``/v2/`` showed; None where the registry was not asked of late."""
    url = f"{transport.url}/v2/"
    asked = [each for each in transport.exchanges if each.url == url and each.status is not None]
    if not asked:
        return None
    header = next((each.received.get("www-authenticate", "") for each in asked if each.status == 401), "")
    challenges = parse_challenges(header)
    length = asked[-1].received.get("content-length", "")
    return Sight(
        transport,
        asked[-1].received,
        challenges[0] if challenges else None,
        int(length) if length.isdecimal() else None,
    )


class Api:
    """Reads JSON. A 401, a 403, a web page and what is not the expected JSON become errors that name the vendor.

    Args:
        sight: Of the registry.
        name: The vendor's.
        base: The API's address.
        rights: What the login must be allowed: the hint of a refusal.
        headers: Sent with each request; an Authorization stands in for the registry's own.
    """

    def __init__(
        self, sight: Sight, name: str, base: str, *, rights: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        self._transport = sight.transport
        self._name = name
        self._base = base.rstrip("/")
        self._rights = rights
        self._headers = {"Accept": "application/json", **(headers or {})}

    async def get(
        self, path: str, type_: type[_T], params: Mapping[str, str] | None = None, scope: tuple[str, ...] = ()
    ) -> _T:
        """Return what stands at a path, as a type; fields that it does not know are left out.

        Args:
            path: Below the API's address.
            type_: What is expected.
            params: The query.
            scope: What a token of the registry must allow, where the API takes one.

        Raises:
            Unauthorized, Denied, NotFound, RateLimited, RegistryError: The API refuses, or does not answer.
            ContentError: Something else answers.
        """
        return self.decoded(await self._get(f"{self._base}{path}", params, scope), type_)

    async def ask(self, path: str, text: str, type_: type[_T], variables: Mapping[str, object] | None = None) -> _T:
        """Send a GraphQL query with GET, and return its data as a type.

        Raises:
            Unsupported: The server does not accept the query, such as a field that it does not know.
        """
        params = {"query": text, **({"variables": json.dumps(variables)} if variables else {})}
        found = await self.get(path, _Graph, params)
        if found.errors or not found.data:
            why = "; ".join(str(each.message) for each in found.errors or ())[:_SHOWN] or "no data"
            raise Unsupported(f"{self._name}'s API does not answer a query: {why}", hint=self._rights)
        return self._converted(found.data, type_, path)

    async def pages(
        self,
        path: str,
        type_: type[_T],
        params: Mapping[str, str] | None = None,
        scope: tuple[str, ...] = (),
    ) -> AsyncIterator[tuple[_T, Mapping[str, str]]]:
        """Follow the header Link to the end, giving each page with its headers.

        Raises:
            ContentError: The pages go in circles or lead elsewhere.
            TooLarge: They do not end.
        """
        url = f"{self._base}{path}" + (f"?{urlencode(params)}" if params else "")
        seen = {url}
        for _ in range(PAGE_LIMIT):
            response = await self._get(url, scope=scope)
            yield self.decoded(response, type_), response.headers
            link = next_page(response.headers.get("link", ""))
            if not link:
                return
            url = join(response.url, link)
            if origin(url) != origin(self._base):
                raise ContentError(f"{self._name}'s API leads to another server, which was not asked: {redact(url)}")
            if url in seen:
                raise ContentError(f"the pages of {self._name}'s API go in a circle: {redact(url)}")
            seen.add(url)
        raise TooLarge(f"{self._name}'s API does not end its pages: {redact(url)}")

    async def _get(self, url: str, params: Mapping[str, str] | None = None, scope: tuple[str, ...] = ()) -> Response:
        try:
            response = await self._transport.request(
                "GET", url, headers=self._headers, params=params, scope=scope, limit=LIST_LIMIT, kind="list"
            )
        except (Unauthorized, Denied) as error:
            raise error.saying(f"{self._name}'s API refuses this login: {error.message}", hint=self._rights) from None
        if response.status != 200:
            self.refuse(response)
        return response

    async def post(self, path: str, document: object, type_: type[_T]) -> _T:
        """Send a document to where an API logs in, and return what it answers. It is sent once.

        Raises:
            Unauthorized, Denied, RateLimited, RegistryError: The API refuses, or does not answer.
            ContentError: Something else answers.
        """
        headers = {**self._headers, "Content-Type": "application/json"}
        body = msgspec.json.encode(document)
        response = await self._transport.request(
            "POST", f"{self._base}{path}", headers=headers, content=body, limit=LIST_LIMIT, kind="list"
        )
        if response.status != 200:
            self.refuse(response)
        return self.decoded(response, type_)

    async def delete(self, path: str, scope: tuple[str, ...] = ()) -> None:
        """Delete what stands at a path; it is sent once.

        Raises:
            Unauthorized, Denied, NotFound, RateLimited, RegistryError: The API refuses, or does not answer.
        """
        response = await self._transport.request("DELETE", f"{self._base}{path}", headers=self._headers, scope=scope)
        if response.status not in (200, 202, 204):
            self.refuse(response)

    def refuse(self, response: Response) -> None:
        """Raise the error that fits an answer which was not expected."""
        where = f"{response.method} {redact(response.url)}"
        if response.status == 403 and (
            response.headers.get("retry-after") or response.headers.get("x-ratelimit-remaining") == "0"
        ):
            # GitHub says so (docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api).
            raise failure(RateLimited, response, f"{self._name}'s API asks for fewer requests: {where}: 403")
        for status, kind, what in (
            (401, Unauthorized, "refuses this login"),
            (403, Denied, "does not allow this to the login"),
            (404, NotFound, "finds nothing there"),
            (429, RateLimited, "asks for fewer requests"),
        ):
            if response.status == status:
                text = f"{self._name}'s API {what}: {where}: {status}"
                raise failure(kind, response, text, hint=self._rights if status in (401, 403) else "")
        if response.status >= 500 or response.status == 405:
            raise_for(response)
        text = f"{self._name}'s API answers {response.status} to {where}"
        raise failure(RegistryError, response, text)

    def decoded(self, response: Response, type_: type[_T]) -> _T:
        """Return an answer's JSON as a type.

        Raises:
            ContentError: It is something else.
        """
        where = redact(response.url)
        try:
            return self._converted(msgspec.json.decode(response.data), type_, where)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise self._strange(where, "a web page" if response.html else error) from None

    def _converted(self, found: object, type_: type[_T], where: str) -> _T:
        try:
            return msgspec.convert(found, type=type_, strict=False)
        except (msgspec.MsgspecError, ValueError) as error:
            raise self._strange(where, error) from None

    def _strange(self, where: str, why: object) -> ContentError:
        text = f"{where}: this is not what {self._name}'s API answers: {str(why)[:_SHOWN]}"
        return ContentError(text, hint="check the address, and the proxy in front of it")


class _Message(msgspec.Struct):
    message: object = None


class _Graph(msgspec.Struct):
    """What a GraphQL server answers."""

    data: dict[str, object] | None = None
    errors: list[_Message] | None = None
