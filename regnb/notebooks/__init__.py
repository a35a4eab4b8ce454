"""The packaged notebooks as runbooks, and JupyterLab on a folder of them.

In an installed package the notebooks lie beside these modules.
"""

__all__ = ["lab", "runbook"]
