"""The web UI's metrics: what they say, and who may read them."""

from __future__ import annotations

from pathlib import Path

import httpx
from browser import Site, visit
from conftest import Seeded
from images import regnb
from prometheus_client.parser import text_string_to_metric_families
from test_ui import TOKEN, token_file


def read(answer: httpx.Response) -> dict[str, float]:
    assert answer.status_code == 200, answer.text
    return {
        sample.name: sample.value for each in text_string_to_metric_families(answer.text) for sample in each.samples
    }


def test_the_audit_and_the_pages_are_in_the_metrics(seeded_embedded: Seeded, tmp_path: Path) -> None:
    """A program needs no cookie where everybody may look; a page that opens is counted; a missing audit is 0."""
    path = tmp_path / "regnb.prom"
    with Site(tmp_path / "ui.log", seeded_embedded.url, "--prometheus", str(path)) as site:
        first = read(httpx.get(f"{site.base}metrics"))
        assert (first["regnb_ui_pages"], first["regnb_ui_audit_readable"]) == (0, 0)
        assert first["process_resident_memory_bytes"] > 0
        assert regnb(tmp_path, "audit", seeded_embedded.url, "--prometheus", str(path)).returncode == 0
        assert visit(site.base).status_code == 200
        then = read(httpx.get(f"{site.base}metrics"))
        assert (then["regnb_ui_pages"], then["regnb_ui_audit_readable"]) == (1, 1)
        assert then["regnb_tags"] > 0
        foreign = httpx.get(f"{site.base}metrics", headers={"Sec-Fetch-Site": "cross-site"})
        assert foreign.status_code == 403


def test_the_report_is_for_who_may_see_the_pages(seeded_embedded: Seeded, tmp_path: Path) -> None:
    """It is a file to keep, as the audit wrote it; before there is one, the page says so."""
    path = tmp_path / "report.html"
    with Site(tmp_path / "ui.log", seeded_embedded.url, "--report", str(path)) as site:
        missing = visit(f"{site.base}report")
        assert (missing.status_code, "no report yet" in missing.text) == (404, True)
        assert regnb(tmp_path, "report", seeded_embedded.url, "-o", str(path)).returncode == 0
        found = visit(f"{site.base}report")
        assert found.content == path.read_bytes()
        assert found.headers["content-disposition"].startswith("attachment")


def test_with_a_token_metrics_take_it(seeded_embedded: Seeded, tmp_path: Path) -> None:
    """Prometheus sends it as Bearer; guesses are limited as at the form, and then the right one waits, too."""
    file = token_file(tmp_path)
    with Site(tmp_path / "ui.log", seeded_embedded.url, "--token-file", file) as site:
        Path(file).unlink()
        url = f"{site.base}metrics"

        def ask(text: str) -> httpx.Response:
            return httpx.get(url, headers={"Authorization": f"Bearer {text}"})

        assert visit(f"{site.base}report").status_code == 302
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, params={"token": TOKEN}).status_code == 401
        assert "regnb" not in httpx.get(url).text
        for _ in range(20):
            assert "regnb_ui_pages" in read(ask(TOKEN))
        assert [ask("wrong").status_code for _ in range(10)] == [401] * 8 + [429] * 2
        locked = ask(TOKEN)
        assert (locked.status_code, locked.headers["retry-after"]) == (429, "60")
        assert "wait a minute" in locked.text
        assert TOKEN not in site.printed()
