"""Records become DataFrames: the columns, the graph of what needs what, how a frame is shown and written to a file."""

__all__ = ["build", "columns", "frame", "graph", "markup", "write"]
