"""Completion in bash, which takes every colon for a word of its own: in URLs, and between repository and tag."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


def joined(words: Sequence[str], current: int) -> tuple[list[str], int, str]:
    """Join what bash has split at colons.

    Args:
        words: Those of the line, as bash has them.
        current: The number of the word that is completed.

    Returns:
        The words as they were typed, the number of the completed one, and its beginning that bash keeps.

    Example:
        >>> joined(["regnb", "digest", "vm/centos8", ":", "8"], 4)
        (['regnb', 'digest', 'vm/centos8:8'], 2, 'vm/centos8:')
    """
    found: list[str] = []
    place, kept = 0, ""
    for number, word in enumerate(words):
        before = words[number - 1] if number else ""
        glued = bool(found) and (word.strip(":") == "" != word or (before != "" and before.strip(":") == ""))
        if glued:
            found[-1] += word
        else:
            found.append(word)
        if number == current:
            place = len(found) - 1
            kept = found[-1][: found[-1].rfind(":") + 1] if glued else ""
    return found, max(place, current - len(words) + len(found)), kept


@contextmanager
def words_with_colons(put: Callable[[str], object]) -> Iterator[None]:
    """While bash asks for completions, let Typer see whole words, and bash the part that it is to add."""
    line = os.environ.get("COMP_WORDS", "")
    if os.environ.get("_REGNB_COMPLETE") != "complete_bash" or "\n" not in line:
        yield
        return
    words, place, kept = joined(line.split("\n"), int(os.environ["COMP_CWORD"]))
    os.environ |= {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(place)}
    answer = io.StringIO()
    try:
        with contextlib.redirect_stdout(answer):
            yield
    finally:
        put("".join(f"{each.removeprefix(kept)}\n" for each in answer.getvalue().splitlines()))
