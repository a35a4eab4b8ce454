"""What each option of an operation means, in one sentence: for the command line, the forms and the docstrings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

OPTIONS: Final[Mapping[str, str]] = {
    "tag": "The new tag; for several, a pattern such as {tag}-old.",
    "to": "Copy to this repository or repository:tag, or a pattern such as mirror/{repository}:{tag}. "
    "Default: the same names.",
    "platform": "Copy only this image of an index, such as linux/arm64 or windows/amd64:10.0.20348.",
    "children": "With an index, delete the manifests that nothing else needs.",
    "referrers": "Include signatures, SBOMs and other referrers.",
    "in_use": "Keep running images: cluster for the current kubectl context, or a file (- for standard input) with the "
    "output of kubectl, or with an image reference on each line.",
    "in_use_host": "Another host name of this registry in the cluster's images (repeatable).",
    "storage": "The registry's own storage, a folder or a URL. Its push dates are used where an age is unknown.",
}
"""Parameter of a ``plan_*`` to what it means."""
CHECKS: Final[Mapping[str, str]] = {
    "overwrite": "overwrite: move a tag that already points to another digest.",
    "dummy": "dummy: if the registry cannot remove a single tag, point it at a placeholder manifest and delete that.",
    "parents": "parents: delete an image that an index lists. The index can then no longer be pulled completely.",
    "running": "running: delete images that run in the cluster.",
    "incomplete": "incomplete: plan although some items could not be read. It may affect more than the plan shows.",
}
"""What may be allowed for a whole plan (:data:`regnb.change.plan.ALLOWANCES`) to what that does."""
CHECKS_OF_A_REPOSITORY: Final[Mapping[str, str]] = {
    "incomplete": "plan although something in this repository could not be read.",
    "emptying": "let the policy remove the last images of this repository.",
    "share": "let the policy remove more than its share of the tags of this repository.",
}
"""Likewise for one repository (:data:`regnb.change.plan.SCOPED`)."""
