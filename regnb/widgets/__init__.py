"""What a notebook shows to click on: pages, tables, forms, the API console, the start page, the form for Kubernetes."""

__all__ = ["console", "expose_form", "forms", "page", "start", "table"]
