"""Registries on this machine: the embedded one, the sample content, and both together as a sandbox."""

__all__ = ["demo", "embedded", "sandbox"]
