"""What is looked at outside a notebook, too: charts, the report in one file, the notebooks as web pages."""

__all__ = ["charts", "report", "ui"]
