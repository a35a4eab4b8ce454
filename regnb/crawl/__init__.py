"""Reading: a registry over HTTP, or a registry"s storage, becomes records.

`records`, `walk` and `storage` know no HTTP: reading a folder loads no HTTP library.
"""

__all__ = ["crawl", "files", "reader", "records", "selection", "storage", "walk"]
