"""The command line: the same calls as in Python, with tables, JSON and honest exit codes."""

from regnb.cli.app import app, main

__all__ = ["app", "main"]
