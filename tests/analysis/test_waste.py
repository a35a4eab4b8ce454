"""What is hidden or repeated in layers is summed up by repository and directory."""

from __future__ import annotations

from archives import archive, packed
from distribution import Distribution
from images import fill, image

from regnb.registry import connect


def test_hidden_and_repeated_bytes_are_summed_up(real: Distribution) -> None:
    """A base whose file one image hides and another shows; content that two layers carry; a layer that is not read."""
    base = packed(archive([("usr/lib/a", "file", b"a" * 1000), ("usr/share/doc/b", "file", b"b" * 100)]))
    hides = packed(archive([("usr/lib/.wh.a", "file", b""), ("usr/share/doc/b", "file", b"new")]))
    shows = packed(archive([("usr/share/doc/.wh.b", "file", b""), ("opt/x", "file", b"x" * 70)]))
    again = packed(archive([("srv/a", "file", b"a" * 1000), ("srv/a2", "file", b"a" * 1000), ("empty", "file", b"")]))
    fill(
        real.url, ("a", "1", image([base, hides])), ("a", "2", image([base, shows])), ("b", "1", image([again])),
        ("c", "1", image([b"no archive" * 99])),
    )  # fmt: skip
    with connect(real.url) as registry:
        inventory = registry.inventory()
        found = inventory.waste(registry)
        one = inventory.waste(registry, ["a:1"], depth=1)
        asked = registry.inventory("b").waste(registry, at_most=10)
    rows = found[["repository", "directory", "files", "hidden", "repeated"]].to_numpy().tolist()
    # usr/lib/a is shown by a:2, and so only its copies in another layer are too much.
    assert rows == [["b", "srv", 2, 0, 2000], ["a", "usr/share", 1, 100, 0], ["c", "", 0, 0, 0]]
    assert found["message"].str.contains("not read").tolist() == [False, False, True]
    assert (found["saved"][:2] > 0).all()
    assert one[["directory", "hidden"]].to_numpy().tolist() == [["usr", 1100]]
    assert asked["message"].str.contains("beyond the limit").all()
