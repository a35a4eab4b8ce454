"""Keys of manifests in other letters."""

from __future__ import annotations

import json

import pytest
from images import image

from regnb.oci.manifest import Manifest, RawManifest, decode
from regnb.oci.reference import Digest
from regnb.oci.spelling import spelled

WHAT = image([b"one", b"two"], annotations={"a": "b"})


@pytest.mark.parametrize("other", ['"Layers"', '"LAYERS"', '"l\\u0061yers"', '"\\u004cayers"', '"layer\u017f"'])
def test_a_manifest_is_read_as_registries_and_clients_in_go_read_it(other: str) -> None:
    """Its layers are found under any spelling of their key; its bytes and its digest stay what they are."""
    data = WHAT.data.replace(b'"layers"', other.encode())
    found = decode(data, WHAT.media_type)
    assert isinstance(found, Manifest)
    assert [layer.digest for layer in found.layers] == [Digest.of(b"one"), Digest.of(b"two")]
    assert (found.raw, found.digest) == (data, Digest.of(data))
    assert RawManifest.of(data, "text/plain", found.digest).media_type == WHAT.media_type


def test_only_the_keys_of_the_specification_are_spelled_anew() -> None:
    """Keys of annotations, unknown keys and values stay, and what is not JSON; of two spellings the last counts."""
    odd = b'{"Layers": [], "annotations": {"Size": "Layers"}, "Other": "Digest", "layers": [{"DIGEST": "x"}]}'
    assert json.loads(spelled(odd)) == {
        "layers": [{"digest": "x"}],
        "annotations": {"Size": "Layers"},
        "Other": "Digest",
    }
    for same in (WHAT.data, b'{"Layers": [', b'"Layers": ' + b"[" * 100_000):
        assert spelled(same) == same
