"""OCI layouts and image archives: read, written, and asked as a registry is.

A layout in a folder, a tree of them, or an archive answers the distribution API without a network, so that everything
that reads a registry or copies between two of them works on it as it is.
"""

__all__ = ["archive", "docker", "folder", "index", "reading", "shelf", "tar", "transport", "tree"]
