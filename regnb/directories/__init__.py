"""What registries tell beside the registry API: Harbor, GitLab, ECR, Docker Hub and more list digests and dates.

One adapter a file, each a :class:`regnb.directories.directory.Directory`. Other packages add theirs as entry points of
the group ``regnb.directories``. What an adapter says is checked by samples; where it fails, the registry API is read.
"""

__all__ = [
    "acr", "api", "detection", "directory", "ecr", "examination", "gar", "ghcr", "gitlab", "harbor", "hub", "quay",
    "zot",
]  # fmt: skip
