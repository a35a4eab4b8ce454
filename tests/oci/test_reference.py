"""References and digests."""

from __future__ import annotations

import contextlib
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from regnb.errors import InvalidReference
from regnb.oci.reference import REPOSITORY_LIMIT, Digest, Reference, check_repository, check_tag, is_digest

ALNUM = string.ascii_lowercase + string.digits
SHA256 = "sha256:" + "a1" * 32
SHA512 = "sha512:" + "b2" * 64

words = st.text(ALNUM, min_size=1, max_size=8)
components = st.builds(
    lambda first, rest: first + "".join(map("".join, rest)),
    words,
    st.lists(st.tuples(st.sampled_from([".", "_", "__", "-", "---"]), words), max_size=3),
)
repositories = st.lists(components, min_size=1, max_size=6).map("/".join)
tags = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
digests = st.builds(Digest.of, st.binary(max_size=8), st.sampled_from(["sha256", "sha512"]))
hosts = st.sampled_from(["localhost:5000", "registry.example.com", "[::1]:5000", "10.0.0.1:80", "HOST", "localhost"])


@given(repositories, st.none() | tags, st.none() | digests, hosts)
def test_every_reference_is_read_back_from_its_text(
    repository: str, tag: str | None, digest: Digest | None, host: str
) -> None:
    """Whatever the grammar allows, tag and digest together included, survives being written and read."""
    whole = Reference(repository, tag, digest, host)
    assert Reference.parse(str(whole)) == whole
    assert Reference.parse(str(whole), registry=host) == whole


@given(repositories, st.none() | tags, st.none() | digests)
@example("a.b/c", None, None)
@example("localhost/c", "1", None)
def test_a_dotted_first_part_is_a_repository_where_the_registry_is_known(
    repository: str, tag: str | None, digest: Digest | None
) -> None:
    """``a.b/c`` on a given registry is a lawful repository and not a host."""
    bare = Reference(repository, tag, digest)
    assert Reference.parse(str(bare), registry="registry.example.com:5000") == bare


@given(st.text())
@example("a" * 10_000 + "/" + "b" * 10_000)
@example("a-" * 5_000)
@example("repo:tag@")
@example("repo@sha256:" + "A" * 64)
@example("repo@sha512:" + "a" * 64)
@example("repo\n")
@example("repo:tag\n")
@example("../../etc/passwd")
@example("repo:tag:tag")
@example("a@" + SHA256 + "@" + SHA256)
def test_hostile_text_is_never_anything_but_an_invalid_reference(text: str) -> None:
    """Any text either reads as a reference that reads back the same, or raises InvalidReference and nothing else."""
    try:
        found = Reference.parse(text)
    except InvalidReference:
        return
    assert str(found) == text
    assert Reference.parse(str(found)) == found


@given(st.text(alphabet=ALNUM + "./:@-_%\n\x00é", max_size=40))
def test_near_misses_of_the_grammar_never_crash(text: str) -> None:
    """Text made of the grammar's own signs, in any order, is accepted whole or refused."""
    for check in (check_repository, check_tag, Digest, Reference.parse):
        with contextlib.suppress(InvalidReference):
            assert str(check(text)) == text


def test_the_parts_of_a_full_reference() -> None:
    """Host with port, nested repository, tag and digest are told apart; the digest is what a request names."""
    found = Reference.parse(f"localhost:5000/vm/base/centos8:8.4@{SHA512}")
    assert (found.registry, found.repository, found.tag) == ("localhost:5000", "vm/base/centos8", "8.4")
    assert found.digest == SHA512
    assert found.target == SHA512
    assert Reference.parse("vm/centos8").target == "latest"
    assert Reference.parse("vm/centos8:8").target == "8"
    assert found.digest is not None
    assert (found.digest.algorithm, found.digest.hex) == ("sha512", "b2" * 64)


def test_the_limit_of_255_characters() -> None:
    """255 characters are a repository name and 256 are not."""
    assert check_repository("a" * REPOSITORY_LIMIT)
    with pytest.raises(InvalidReference, match="256 characters"):
        check_repository("a" * 256)
    assert check_tag("t" * 128)
    with pytest.raises(InvalidReference):
        check_tag("t" * 129)


@pytest.mark.parametrize(
    "text",
    ["", "A/b", "a//b", "/a", "a/", "a/../b", "..%2fb", "a b", "a___b", "-a", "a.", "é", "a\n", "a\x00b"],
)
def test_names_that_registries_choke_on(text: str) -> None:
    """What gives a 500 or a redirect on a real registry is refused before anything is sent."""
    with pytest.raises(InvalidReference):
        check_repository(text)


def test_a_component_may_be_named_like_an_endpoint() -> None:
    """``a/blobs/b`` and ``tags/list`` are lawful repository names."""
    assert check_repository("a/blobs/b") == "a/blobs/b"
    assert check_repository("tags/list") == "tags/list"


@pytest.mark.parametrize(
    "text",
    ["", "sha256:", "sha256:" + "a" * 63, "sha256:" + "A" * 64, "md5:" + "a" * 32, SHA256 + "\n", "sha512:" + "a" * 64],
)
def test_what_is_no_digest(text: str) -> None:
    """Only whole, lower-case sha256 and sha512 digests are digests."""
    assert not is_digest(text)
    with pytest.raises(InvalidReference):
        Digest(text)


def test_a_digest_is_a_plain_string() -> None:
    """A digest is equal to its text and hashes alike, so that it goes into frames and dictionaries."""
    digest = Digest.of(b"{}", "sha512")
    assert digest == str(digest)
    assert {digest: 1}[str(digest)] == 1
    assert digest.short == f"sha512:{digest.hex[:12]}"


def test_a_reference_checks_what_it_is_made_of() -> None:
    """A Reference made by hand obeys the same grammar, and turns a text digest into a Digest."""
    assert isinstance(Reference("a", digest=SHA256).digest, Digest)  # type: ignore[arg-type]
    for parts in ({"tag": "no tag"}, {"digest": "sha256:1"}, {"registry": "no host/"}):
        with pytest.raises(InvalidReference):
            Reference("a", **parts)  # type: ignore[arg-type]


def test_docker_hub_has_several_names() -> None:
    """On Docker Hub each of its names is the registry, and an official image is in library."""
    for text in ("nginx:1", "docker.io/nginx:1", "index.docker.io/library/nginx:1", "registry-1.docker.io/nginx:1"):
        assert Reference.parse(text, registry="registry-1.docker.io").repository == "library/nginx"
    assert Reference.parse("docker.io/nginx").repository == "library/nginx"
    assert Reference.parse("docker.io/team/app", registry="registry-1.docker.io").repository == "team/app"
    assert Reference.parse("nginx:1", registry="localhost:5000").repository == "nginx"


def test_a_registry_below_a_path() -> None:
    """A reference may name the registry with its path, where it is known."""
    found = Reference.parse("h:5000/team/registry/a/b:1", registry="h:5000/team/registry")
    assert (found.registry, found.repository, found.tag) == ("h:5000/team/registry", "a/b", "1")
    assert Reference.parse("a/b:1", registry="h:5000/team/registry").registry is None


@pytest.mark.parametrize("text", ["team/app:1.0", f"team/app@{SHA256}", f"team/app:1.0@{SHA256}"])
def test_a_reference_in_place_of_a_repository_is_told_which_part_to_name(text: str) -> None:
    """Where a repository alone is wanted, its name is in the hint, and not the grammar of names."""
    with pytest.raises(InvalidReference) as raised:
        check_repository(text)
    assert raised.value.hint.endswith(": team/app")
