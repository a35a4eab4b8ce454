"""A curl line as people paste it, read as the request that it means."""

from __future__ import annotations

import re
import shlex
from typing import Final

from msgspec import Struct

from regnb.errors import InvalidArgument

_VARIABLE: Final = re.compile(r"\$\{?(\w+)\}?")
_TAKING: Final = {
    "-X": "method", "--request": "method", "-H": "header", "--header": "header", "-d": "data", "--data": "data",
    "--data-binary": "data", "--data-raw": "data", "--data-ascii": "data", "--url": "url",
}  # fmt: skip
"""Options that are understood and take a value."""
_IGNORED: Final = {"-o", "--output", "-w", "--write-out", "-m", "--max-time", "--connect-timeout", "--retry"}
"""Options with a value that change nothing about the request."""
_FLAGS: Final = {"-I": "head", "--head": "head", "-i": "include", "--include": "include", "-v": "include",
    "--verbose": "include"}  # fmt: skip
_SILENT: Final = {
    "-s",
    "-S",
    "-f",
    "-L",
    "-k",
    "-g",
    "-#",
    "--silent",
    "--show-error",
    "--fail",
    "--location",
    "--insecure",
}
_HINT: Final = "these are: -X, -H, -d, --data-binary, -I, -i, -v, and a URL"


class Pasted(Struct, frozen=True):
    """What a curl line asks for.

    Attributes:
        method: In capitals.
        host: ``host[:port]`` as it stands in the line; "" where there is none.
        url: ``scheme://host[:port]``; without a scheme it is ``http://``, as for curl.
        path: From ``/v2/`` on, with its query.
        headers: ``Name: value``, in order.
        data: As for ``-d``: a text, or ``@FILE``.
        include: Whether headers are shown, too (``-i``, ``-v``).
        notes: What a shell would make of the line that its writer did not mean, a sentence each.
    """

    method: str
    host: str
    url: str
    path: str
    headers: tuple[str, ...] = ()
    data: str = ""
    include: bool = False
    notes: tuple[str, ...] = ()


def pasted(line: str) -> Pasted:
    """Read a curl line.

    An ``&`` outside quotes ends the command for a shell: what follows is read as a part of the URL, as it was meant,
    and a note says so.

    Raises:
        InvalidArgument: It is not a curl line, its quotes do not match, an option is not understood, it does not have
            one URL, or it holds a shell's variable, whose value is not known here.

    Example:
        >>> pasted("curl -I localhost:5000/v2/vm/centos8/manifests/latest").method
        'HEAD'
        >>> found = pasted('curl -X POST r:5000/v2/a/blobs/uploads/?mount="sha256:0"&from="b"')
        >>> found.path, len(found.notes)
        ('/v2/a/blobs/uploads/?mount=sha256:0&from=b', 1)
    """
    text = re.sub(r"\\\r?\n", " ", line).strip().removeprefix("$ ")
    try:
        words = shlex.split(text)
        lexer = shlex.shlex(text, posix=True, punctuation_chars="&;|<>")
        lexer.whitespace_split, lexer.commenters = True, ""
        apart = list(lexer)
    except ValueError as error:
        raise InvalidArgument(f"the line cannot be read: {error}", hint="close each quote") from None
    if not words or words[0] != "curl":
        raise InvalidArgument("the line does not begin with curl", hint="paste a line such as: curl -I HOST/v2/")
    if bad := [word for word in apart if re.fullmatch(r"[;|<>]+|&&+", word)]:
        raise InvalidArgument(f"the line holds more than one command: {bad[0]}", hint="paste one curl command alone")
    found: dict[str, list[str]] = {name: [] for name in ("method", "header", "data", "url")}
    flags: set[str] = set()
    queue = _apart(words[1:])
    while queue:
        word = queue.pop(0)
        if word in _TAKING or word in _IGNORED:
            if not queue:
                raise InvalidArgument(f"{word} has no value", hint=_HINT)
            value = queue.pop(0)
            if word in _TAKING:
                found[_TAKING[word]].append(value)
        elif word in _FLAGS:
            flags.add(_FLAGS[word])
        elif word.startswith("-") and word not in _SILENT:
            raise InvalidArgument(f"the option {word[:40]} is not understood", hint=_HINT)
        elif not word.startswith("-"):
            found["url"].append(word)
    if len(found["url"]) != 1:
        raise InvalidArgument(f"the line has {len(found['url'])} URLs", hint="one is needed: put it in quotes")
    if names := list(dict.fromkeys(_VARIABLE.findall(" ".join((*found["url"], *found["header"], *found["data"]))))):
        hint = "write their values instead; for a manifest, --data-binary @FILE"
        raise InvalidArgument(f"the values of these shell variables are not known here: {', '.join(names)}", hint=hint)
    (url,) = found["url"]
    scheme, colon, rest = url.partition("://")
    scheme, rest = (scheme, rest) if colon else ("http", url)
    host, slash, path = rest.partition("/")
    host = host.rpartition("@")[2] if colon or slash else host
    method = "HEAD" if "head" in flags else "POST" if found["data"] else "GET"
    notes = []
    if "&" in apart:
        cut = text[text.index("&") :].split()[0] if " &" not in text else "&"
        notes.append(f"a shell ends this command at the unquoted & and never sends {cut}: put the whole URL in quotes")
    return Pasted(
        method=(found["method"] or [method])[-1].upper(),
        host=host,
        url=f"{scheme}://{host}",
        path=f"/{path}",
        headers=tuple(found["header"]),
        data="&".join(found["data"]),
        include="include" in flags,
        notes=tuple(notes),
    )


def _apart(words: list[str]) -> list[str]:
    """Return the words with options that stand together, such as ``-sSI`` or ``-XDELETE``, each for itself."""
    found = []
    for word in words:
        if not re.fullmatch(r"-[A-Za-z#].+", word):
            name, equals, value = word.partition("=")
            found += [name, value] if equals and name in _TAKING else [word]
            continue
        rest = word[1:]
        while rest:
            option, rest = f"-{rest[0]}", rest[1:]
            found.append(option)
            if rest and (option in _TAKING or option in _IGNORED):
                found.append(rest)
                break
    return found
