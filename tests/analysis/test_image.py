"""One image: what is shown of it is what the registry has, and a history that does not fit is not guessed at."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from distribution import Distribution
from images import attestation, config, fill, image, index, layer, pack

import regnb
from regnb.errors import NotFound
from regnb.oci.manifest import HistoryEntry, ImageConfig
from regnb.registry import Registry

BASE = layer("base", 3000)
ABOUT = json.loads(config("amd64", "2026-01-01T00:00:00Z", ["ADD root /", "RUN make"]))
ABOUT["config"] = {
    "Entrypoint": ["/app", "serve"], "User": "1000", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=1", "B=x=y"],
    "Labels": {"team": "<web>"},
}  # fmt: skip
ONE = image([BASE, layer(1, 200)], about=json.dumps(ABOUT).encode())
NEW = image([BASE, layer(2, 300)], about=json.dumps(ABOUT | {"config": {"User": "0"}}).encode())
ARM = image([layer(3, 100)], about=config("arm64", "2026-01-02T00:00:00Z", ["RUN arm"]))
MULTI = index([(ONE, "linux/amd64"), (ARM, "linux/arm64"), (attestation(ONE), "unknown/unknown")])
SIGNED = f"{str(ONE.digest).replace(':', '-')}.sig"


@pytest.fixture
def registry(real: Distribution) -> Iterator[Registry]:
    signature = image([pack({"s": 1})], about=b"{}", layer_type="application/vnd.dev.cosign.simplesigning.v1+json")
    fill(
        real.url, ("app", "1", ONE), ("app", "latest", ONE), ("app", "2", NEW), ("app", "m", MULTI), ("web", "1", ONE),
        ("app", SIGNED, signature),
    )  # fmt: skip
    with regnb.connect(real.url) as found:
        yield found


def test_what_an_image_is(registry: Registry) -> None:
    """Names, digest with its pull line, settings, signature, layers with their steps, and who shares them."""
    found = registry.image("app:1", inventory=registry.inventory(progress=False))
    about = dict(found.about.itertuples(index=False, name=None))
    assert about["tags"] == "1, latest"
    assert about["to pull it"] == f"docker pull {registry.host}/app@{ONE.digest}"
    assert about["signed"] == "yes"
    assert about["built on"].startswith("not known: no other tagged image here has its first layers")
    assert about["SBOM"] == "no SBOM was found"
    assert found.size == ONE.size
    assert found.exclusive is not None
    assert found.exclusive < 200, "only its signature goes: app:m and web:1 need the rest"
    assert found.layers["command"].to_list() == ["ADD root /", "RUN make"]
    settings = dict(found.config[["setting", "value"]].itertuples(index=False, name=None))
    assert settings == {
        "entrypoint": "/app serve", "user": "1000", "ports": "80/tcp", "environment A": "1", "environment B": "x=y",
        "label team": "<web>",
    }  # fmt: skip
    shared = {row.repository: row.tags for row in found.shared_with.itertuples()}
    assert shared == {"app": "2 and m", "web": "1"}
    sizes = {row.repository: row.layers for row in registry.image("app:2").shared_with.itertuples()}
    assert sizes == {"app": 1}, "the base layer alone is shared, and the image's own layers do not count"
    html = found._repr_html_()
    assert f"docker pull {registry.host}/app@{ONE.digest}<" in html
    assert "&lt;web&gt;" in html
    assert "<web>" not in html


def test_the_platforms_of_an_index(registry: Registry) -> None:
    """Each platform has its layers and settings; the attestation is a referrer and no platform."""
    found = registry.image("app:m")
    assert [part.platform for part in found.parts] == ["linux/amd64", "linux/arm64"]
    assert found.layers["platform"].to_list() == ["linux/amd64", "linux/amd64", "linux/arm64"]
    assert "attestation" in set(found.referrers["kind"])
    assert "of the repositories that were read" in found.about.to_string()


def test_two_images_are_compared(registry: Registry) -> None:
    """A layer that both have is not named; what only one has, and each setting that differs, is."""
    one, new = registry.image("app:1"), registry.image("app:2")
    rows = one.compare(new)
    layers = rows[rows["what"].str.startswith("layer")]
    assert len(layers) == 2
    assert [bool(first) for first in layers["first"]] == [True, False]
    assert rows.set_index("what").loc["user", ["first", "second"]].to_list() == ["1000", "0"]
    assert one.compare(registry.image(f"app@{ONE.digest}")).empty


def test_an_image_that_is_not_there(registry: Registry) -> None:
    """It is named as it was asked for."""
    with pytest.raises(NotFound, match="app:none"):
        registry.image("app:none")


def step(text: str, *, empty: bool = False) -> HistoryEntry:
    return HistoryEntry(created_by=text, empty_layer=empty)


@pytest.mark.parametrize(
    ("history", "layers", "steps", "note"),
    [
        ([step("ADD a"), step("ENV x=1", empty=True), step("RUN b")], 2, ["ADD a", "RUN b"], ""),
        (
            [step("FROM x"), step("RUN dnf", empty=True), step("COPY a", empty=True), step("LABEL a=b")], 2,
            ["FROM x", "RUN dnf; COPY a; LABEL a=b"], "ascribes to a setting",
        ),
        ([step("/bin/sh -c #(nop)  CMD x")], 1, ["/bin/sh -c #(nop)  CMD x"], ""),
        ([step("kaniko")], 3, ["", "", ""], "the history has 1 steps and there are 3 layers"),
        ([HistoryEntry(), HistoryEntry()], 2, ["", ""], "does not say"),
        (None, 1, [""], "does not say"),
        (None, 0, [], ""),
    ],
    ids=["docker", "buildah", "lone", "kaniko", "buildpacks", "none", "scratch"],
)  # fmt: skip
def test_the_steps_that_made_the_layers(
    history: list[HistoryEntry] | None, layers: int, steps: list[str], note: str
) -> None:
    """A step that writes no file is shown with those before it; a history that does not fit names nothing."""
    found, said = ImageConfig(history=history).steps(layers)
    assert found == steps
    assert (note in said) if note else said == ""
