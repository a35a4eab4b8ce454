"""curl lines as they stand in notes are read as the requests that they mean."""

from __future__ import annotations

import pytest

from regnb.errors import InvalidArgument
from regnb.wire.pasted import Pasted, pasted

DIGEST = "sha256:87c6c69372dc8d2bf545b5c119e4b6988d601f0a8e3b6260cac243ed8f63ea91"
V2 = "Accept:application/vnd.docker.distribution.manifest.v2+json"
ROOT = "/v2/vm/centos8/manifests"


def read(method: str, host: str, path: str, **more: object) -> Pasted:
    return Pasted(method, host, f"http://{host}", path, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (f'curl -I --header "{V2}" r.k3s:5000{ROOT}/a', read("HEAD", "r.k3s:5000", f"{ROOT}/a", headers=(V2,))),
        (f"curl -X DELETE registry.k3s:5000{ROOT}/{DIGEST}", read("DELETE", "registry.k3s:5000", f"{ROOT}/{DIGEST}")),
        (f"$ curl -XDELETE \\\n http://r{ROOT}/{DIGEST}", read("DELETE", "r", f"{ROOT}/{DIGEST}")),
        (f"curl --header '{V2}' 127.0.0.1:5000{ROOT}/a", read("GET", "127.0.0.1:5000", f"{ROOT}/a", headers=(V2,))),
        ("curl -sSi r:5000/v2/_catalog?n=5", read("GET", "r:5000", "/v2/_catalog?n=5", include=True)),
        ("curl -v r:5000/v2/", read("GET", "r:5000", "/v2/", include=True)),
        ("curl -X PUT -H 'Content-Type: a/b' -d @m.json r:5000/v2/a/manifests/1",
         read("PUT", "r:5000", "/v2/a/manifests/1", headers=("Content-Type: a/b",), data="@m.json")),
        ("curl --request=PUT --data-binary '{}' r/v2/a/manifests/1", read("PUT", "r", "/v2/a/manifests/1", data="{}")),
        ("curl 'r:5000/v2/_catalog?n=5&last=a'", read("GET", "r:5000", "/v2/_catalog?n=5&last=a")),
    ],
)  # fmt: skip
def test_what_a_line_asks_for(line: str, request_: Pasted) -> None:
    """Method, host with or without a scheme, path, headers, data and what is shown, however the options are written."""
    assert pasted(line) == request_


def test_an_unquoted_ampersand_cuts_a_line() -> None:
    """The line is read as it was meant, and a note says what a shell makes of it; in quotes there is nothing to say."""
    line = f'curl -X POST 127.0.0.1:5000/v2/vm/test/centos8/blobs/uploads/?mount="{DIGEST}"&from="vm/centos8"'
    found = pasted(line)
    assert found.path == f"/v2/vm/test/centos8/blobs/uploads/?mount={DIGEST}&from=vm/centos8"
    (note,) = found.notes
    assert 'never sends &from="vm/centos8"' in note
    assert pasted(f"curl -X POST 'r/v2/a/blobs/uploads/?mount={DIGEST}&from=b'").notes == ()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("wget r/v2/", "does not begin with curl"), ("", "does not begin with curl"), ("curl 'r/v2/", "quote"),
        ("curl -X", "-X has no value"), ("curl --upload-file a r/v2/", "--upload-file"), ("curl", "0 URLs"),
        ("curl r/v2/ r/v2/", "2 URLs"), ("curl r/v2/ | sh", "more than one command"),
        ("curl r/v2/ && rm a", "more than one command"),
        ('curl -d "${MANIFEST}" "${REGISTRY}/v2/${REPOSITORY}/manifests/1"', "REGISTRY, REPOSITORY, MANIFEST"),
    ],
)  # fmt: skip
def test_lines_that_are_not_read(line: str, words: str) -> None:
    """Each error says what is in the way; variables are named, for their values are not known here."""
    with pytest.raises(InvalidArgument) as error:
        pasted(line)
    assert words in str(error.value)
