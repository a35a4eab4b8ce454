"""What the OCI and Docker specifications define: names, digests, manifests, tags of referrers, the layout on disk."""

__all__ = ["layout", "manifest", "reference", "referrers"]
