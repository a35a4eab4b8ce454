"""What is in use: how much of it a registry has, under which names, and what has no effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from images import Image, config, image, layer
from stored import Stored

from regnb.change.protection import protect
from regnb.change.retention import plan_retention
from regnb.errors import InvalidArgument, Refused


def one(number: int) -> Image:
    about = config(created=f"2020-01-0{number + 1}T00:00:00Z")
    return image([layer(number, 9)], about=about, annotations={"n": str(number)})


STORED = Stored(("app", "1", one(1)), ("app", "2", one(2)), ("team/app", "1", one(3)))
POLICY = '[[rule]]\nrepositories = ["*"]\nkeep_matching = ["none"]\nremove_at_most = "100%"\n'


def use(*images: str, kind: str = "Pod") -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"image": image} for image in images]}
    spec = spec if kind == "Pod" else {"template": {"spec": spec}}
    return {"kind": "List", "items": [{"kind": kind, "metadata": {"name": "n", "namespace": "b"}, "spec": spec}]}


def test_what_was_found_and_under_which_names() -> None:
    """The notes count what is here and what is not, by host name, and name what a name of this registry promises."""
    found = protect(
        STORED.inventory(),
        use("r.example/app:1", "r.example/app:9", "other:5000/team/app:1", "nginx:1.25", kind="Deployment"),
        ["r.example"],
    )
    assert found.notes == (
        "Images in use: 2 of 4 found in this registry (host names: r.example (1) and other:5000 (1)); "  # noqa: ISC004 -- one sentence
        "2 not found (host names: r.example (1) and docker.io or no host (1)).",
        "In use under the name of this registry, but not found in it: app:9 (b/n).",
    )
    assert found.running.where("app", "1") == found.running.where("team/app", "1") == "b/n"


def test_a_list_of_pods_alone_says_so() -> None:
    """What is scaled to 0 has no pods: the notes name the command that lists it, too."""
    assert "scaled to 0" in protect(STORED.inventory(), use("r.example/app:1")).notes[-1]
    assert not any("scaled to 0" in note for note in protect(STORED.inventory(), use("app:1", kind="Job")).notes)


@pytest.mark.parametrize(
    ("images", "hosts", "text"),
    [
        ((), (), "the list has no images"),
        (("other.example/x:1", "nginx"), (), r"none of the 2 images.*stored:5000: they are of other.example \(1\)"),
        (("other.example/app:1",), ("r.example",), "none of the 1 image .*under r.example and stored:5000"),
    ],
)
def test_a_protection_without_effect_is_refused(images: tuple[str, ...], hosts: tuple[str, ...], text: str) -> None:
    """Nothing found means a wrong context, file or name: the error says what to do."""
    inventory = STORED.inventory()
    with pytest.raises(Refused, match=text) as raised:
        plan_retention(inventory, POLICY, url=STORED.url, authorized=False, in_use=use(*images), in_use_host=hosts)
    assert "--in-use-host" in raised.value.hint


def test_a_plan_says_what_protects(tmp_path: Path) -> None:
    """A retention plan keeps what a file of references names, and its notes say how much of it was found."""
    path = tmp_path / "images.txt"
    path.write_text("r.example/app:2\nr.example/team/app:1\n", encoding="utf-8")
    plan = plan_retention(
        STORED.inventory(), POLICY, url=STORED.url, authorized=False, in_use=path, in_use_host=["r.example"]
    )
    assert [step.tag for step in plan.steps if not step.writes] == ["2", "1"]
    assert plan.steps[0].reason == "kept: runs in the cluster (line 1 of images.txt)"
    assert plan.notes[0] == "Images in use: 2 of 2 found in this registry (host names: r.example (2)); 0 not found."


def test_host_names_are_checked() -> None:
    """A host name has no path, and is of no use without what is in use."""
    with pytest.raises(InvalidArgument, match="not a host name"):
        protect(STORED.inventory(), use("app:1"), ["r.example/app"])
    with pytest.raises(InvalidArgument, match="without the images in use"):
        protect(STORED.inventory(), None, ["r.example"])
