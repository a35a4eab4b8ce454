"""The web UI as a card in JupyterLab's launcher: by jupyter-server-proxy, for the user of that JupyterLab alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from urllib.parse import urlsplit

import httpx
import pytest
from browser import COMMAND, Lab, told
from conftest import Seeded

from regnb.notebooks import launcher


@pytest.fixture(scope="module")
def lab(seeded_embedded: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab as ``regnb lab`` opens it."""
    folder = tmp_path_factory.mktemp("lab")
    found = Lab(
        folder / "lab.log", "lab", seeded_embedded.url, "--no-browser", "--folder", str(folder / "n"), by=COMMAND
    )
    yield found
    found.stop()


def test_the_entry_is_declared() -> None:
    """jupyter-server-proxy finds it by the package's metadata, and its name is the path that it is served at."""
    (found,) = entry_points(group="jupyter_serverproxy_servers", name=launcher._NAME)
    assert found.load() is launcher.server


def test_a_card_leads_to_the_pages(lab: Lab) -> None:
    """The launcher has a card; behind it are the pages, at a prefix, and only for who has Lab's token."""
    base, token = re.fullmatch(r"(.*?/)lab\S*token=(\w+)", lab.url()).groups()  # type: ignore[union-attr]
    with httpx.Client(base_url=base, headers={"Authorization": f"token {token}"}, timeout=600) as client:
        (card,) = [
            each for each in client.get("server-proxy/servers-info").json()["server_processes"]
            if each["name"] == "regnb"
        ]  # fmt: skip
        assert card["launcher_entry"]["enabled"]
        assert client.get("server-proxy/icon/regnb").headers["content-type"].startswith("image/svg")
        light = client.get("regnb/")
        again = re.search(r"http-equiv='refresh' content='0; url=([^']+)'", light.text)
        assert again, light.text
        page = client.get(again[1].replace("&amp;", "&"), follow_redirects=True)
        assert '<nav aria-label="Pages">' in page.text
        assert "/regnb/" in page.text
    assert httpx.get(f"{base}regnb/").status_code in (302, 403)
    ports = set(re.findall(r"--port\D+(\d+)", " ".join(_commands(lab))))
    own = [port for port in ports if int(port) != urlsplit(base).port]
    assert len(own) == 1
    direct = httpx.get(f"http://127.0.0.1:{own[0]}/regnb/metrics")
    assert direct.status_code == 401


def _commands(lab: Lab) -> list[str]:
    return [told(pid, "cmdline").replace(b"\0", b" ").decode() for pid in lab.group()]
