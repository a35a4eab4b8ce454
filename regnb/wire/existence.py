"""What an answer says about whether something exists: the one place where that is decided.

A proxy, a load balancer or a web server in front of a registry answers 404, too, and knows nothing of what the registry
holds. So an answer proves that something is absent only if it looks like the registry's own word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from regnb.oci.manifest import media_type_of
from regnb.text import redact
from regnb.wire.addresses import origin, within
from regnb.wire.messages import Response

ABSENT: Final = (
    (re.compile("/tags/list$"), frozenset({"NAME_UNKNOWN", "NOT_FOUND"})),
    (re.compile("/manifests/[^/]+$"), frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND", "TAG_INVALID"})),
    (re.compile("/blobs/[^/]+:[^/]+$"), frozenset({"BLOB_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND"})),
    (
        re.compile(""),
        frozenset({"BLOB_UNKNOWN", "BLOB_UPLOAD_UNKNOWN", "MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND"}),
    ),
)
"""Ends of paths, and the error codes that mean "not there" with a 404 to them; the first that fits counts.

Distribution spec 1.1, "Error Codes"; ``NOT_FOUND`` is Harbor's. A registry does not answer the question for a manifest,
or for the tags of a repository, with the code of a blob: whatever says so answers something else.
"""
REFUSALS: Final = frozenset({400, 403, 404, 405, 406, 501})
"""Statuses with which registries say that they do not have an optional endpoint: the catalog, the list of referrers."""


def doubt(response: Response, registry: str, codes: Sequence[str] = ()) -> str:
    """Return why an answer proves nothing about whether something exists; "" if it does prove it.

    Args:
        response: Status 404, or 200 to a GET of a manifest. Any other status says nothing, and is another error.
        registry: The registry that was asked.
        codes: The error codes in its body.

    Example:
        >>> page = Response("GET", "http://h/v2/a/tags/list", 404, {"content-type": "text/html"}, b"<p>")
        >>> doubt(page, "http://h")
        'a web page'
    """
    if response.status == 200:
        if media_type_of(response.data, response.media_type):
            return ""
        return "an answer without a digest whose content is not a manifest"
    if not within(response.url, registry):
        if origin(response.url) == origin(registry):
            return f"an answer from outside {registry}, to which the registry redirected"
        return f"an answer from another server, {redact(origin(response.url))}, to which the registry redirected"
    if response.method == "HEAD":
        return "an answer to HEAD, which holds no error code"
    if response.html:
        return "a web page"
    if codes:
        path = urlsplit(response.url).path
        known = next(meant for end, meant in ABSENT if end.search(path))
        return "" if known.issuperset(codes) else f"the error code {', '.join(codes)}"
    return "an answer without an error code" if response.data.strip() else "an empty answer"
