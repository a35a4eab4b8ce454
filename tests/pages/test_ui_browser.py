"""The web UI in a real browser, behind nginx under /ui/ as behind an Ingress: every page, and a deletion taken back."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import reverse
from browser import WIDTHS, Site, browsing, faults
from conftest import Seeded, need
from distribution import Distribution
from images import config, fill, image, layer
from proxied import proxy, state
from test_forms_browser import apart, apply, button, contrast, finished, is_off, part, plan
from test_notebooks import UNCONNECTED, check_that_nothing_was_written, forward
from test_ui import token_file

from regnb.notebooks.runbook import runbooks

TOKEN = "canary-token-4417820965"
CHARTED = ("02-storage", "03-image", "20-growth", "21-fleet")
SHOWN = {"01-inventory": ".jp-OutputArea-output .dt-container"} | dict.fromkeys(CHARTED, ".js-plotly-plot")
"""Page: what it has beside forms."""
PAGES = [book.name for book in runbooks()]


CUT = """() => [...document.querySelectorAll("#rendered_cells table")].filter((table) => {
  if (!table.offsetWidth) return false;
  const { right } = table.getBoundingClientRect();
  for (let each = table.parentElement; each; each = each.parentElement) {
    if (right <= each.getBoundingClientRect().right + 1) continue;
    const style = getComputedStyle(each);
    if (style.overflowX !== "visible")
      return !["auto", "scroll"].includes(style.overflowX) || Number(style.getPropertyValue("--regnb-edge")) === 1;
  }
  return right > innerWidth + 1;
}).map((table) => table.outerHTML.slice(0, 200))"""
"""Tables whose last columns cannot be scrolled to, or that do not show at their edge that there are more."""


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("REGNB_TESTS_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page(screenshots: Path) -> Iterator[Any]:
    """A page that reaches this machine alone; what it wanted from elsewhere is counted, and is nothing."""
    with browsing(screenshots / "last.png") as (found, outside):
        troubles: list[str] = []
        # plotly's extension wants to keep a picture of each chart in the notebook, and a page of Voilà's has none.
        known = "setData is not a function"
        found.on("pageerror", lambda error: troubles.append(str(error)) if known not in str(error) else None)
        policy = "Content Security Policy"
        found.on("console", lambda said: troubles.append(said.text) if policy in said.text else None)
        yield found
        assert outside == []
        assert troubles == []


class Served:
    """``regnb ui`` behind nginx, which also routes /v2 to the registry; and what the registry was asked."""

    def __init__(self, url: str, requests: Any, site: Site) -> None:
        self.url, self.requests, self.site = url, requests, site


@pytest.fixture(scope="module")
def served(seeded_embedded: Seeded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Read-only, on the sample registry, with its storage and snapshots."""
    need("proxy", reverse.PROGRAM, "nginx is not installed (apt-get install nginx-light)")
    folder = tmp_path_factory.mktemp("served")
    import regnb  # noqa: PLC0415 -- once for all pages

    snapshots = folder / "snapshots"
    for _ in range(2):
        regnb.read(seeded_embedded.url).save(snapshots)
    options = ("--storage", str(seeded_embedded.root), "--snapshots", str(snapshots))
    with (
        proxy(seeded_embedded.host, forward) as between,
        Site(folder / "ui.log", between.url, *options) as site,
        reverse.nginx(folder / "nginx", {"/ui": f"127.0.0.1:{site.port}", "/v2": seeded_embedded.host}) as front,
    ):
        yield Served(front.url, between, site)


def opened(page: Any, url: str) -> Any:
    """Open a page and wait until it is there."""
    page.goto(url)
    page.locator("#rendered_cells").wait_for(state="visible")
    return page


def layers_of(url: str, reference: str) -> list[str]:
    """The digests of an image's layers."""
    import regnb  # noqa: PLC0415 -- once for all pages

    with regnb.connect(url, cache=False) as registry:
        return list(registry.layers(reference)["digest"].astype("str"))


def settled(page: Any, name: str) -> None:
    """Wait until what a page is for is drawn."""
    selector = SHOWN.get(name, ".regnb-form")
    page.locator(selector).first.wait_for()
    page.wait_for_timeout(1500)


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_drawn_and_fits(served: Served, page: Any, name: str, screenshots: Path) -> None:
    """Under /ui/, without a word to the outside and without a write.

    Wide and narrow, light and dark: nothing sticks out, texts can be read, and axe finds nothing on the whole page.
    """
    for theme in ("light", "dark"):
        opened(page, f"{served.url}/ui/{name}?theme={theme}")
        settled(page, name)
        assert "There was an error" not in page.locator("#rendered_cells").inner_text()
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(700)
            page.screenshot(path=screenshots / f"ui-{name}-{width}-{theme}.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            edges = "each => each.map(svg => svg.getBoundingClientRect().right)"
            assert max(page.eval_on_selector_all(".js-plotly-plot .main-svg", edges), default=0) <= width
            heights = "each => each.map(chart => chart.getBoundingClientRect().height)"
            assert min(page.eval_on_selector_all(".js-plotly-plot", heights), default=200) > 100  # also once resized
            assert page.evaluate(CUT) == []
        page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        for text in ("h1", "p", ".regnb-head a"):
            assert contrast(page.locator(text).first) > 4.5, (theme, text)
        assert faults(page, "html", serious=False) == []
    few = (*UNCONNECTED, "14-collect", "20-growth", "30-api-console")  # by themselves, whatever was opened before
    check_that_nothing_was_written(served.requests, asked=name not in few)


def test_the_heading_leads_from_page_to_page(served: Served, page: Any) -> None:
    """By the keyboard alone: to the content, and to another page, which keeps its theme."""
    opened(page, f"{served.url}/ui/?theme=dark")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the page"
    page.locator("header nav a", has_text="Storage").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/ui/02-storage"))
    assert page.locator("header a[aria-current]").inner_text() == "Storage"
    page.locator("body.theme-dark").wait_for()
    card = opened(page, f"{served.url}/ui/").locator(".regnb-cards a").first
    card.click()
    page.wait_for_url(re.compile("/ui/01-inventory"))


def test_a_link_to_one_repository(served: Served, page: Any) -> None:
    """``?repository=`` decides what the page shows; the same form changes it."""
    opened(page, f"{served.url}/ui/12-delete?repository=vm/centos8")
    form = page.locator(".regnb-form").first
    form.locator("tbody tr").first.wait_for()
    assert "4 of 4 rows shown" in form.inner_text()
    sizes = form.locator("tbody tr td:has-text('MB')").all_inner_texts()
    assert sizes
    assert all(re.fullmatch(r"[\d.]+ MB", text) for text in sizes), sizes
    page.get_by_label("repository", exact=True).fill("tools/*")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url(re.compile(r"repository=tools"))
    page.locator("#rendered_cells").wait_for(state="visible")
    form.locator("tbody tr", has_text="tools/cli").first.wait_for()


def test_what_one_has_in_hand_finds_its_row(served: Served, page: Any) -> None:
    """A reference with and without its host, a digest, whole and short, and a layer's lead to the one row.

    Each heading explains its column, and each table of a page has labels of its own.
    """
    digest = apart(state, served.requests.url, "vm/centos8")["vm/centos8:8.3"].digest
    opened(page, f"{served.url}/ui/12-delete")
    settled(page, "12-delete")
    form = page.locator(".regnb-form").first
    host = served.requests.url.partition("://")[2]
    for text in ("vm/centos8:8.3", f"{host}/vm/centos8:8.3", digest, digest[7:19]):
        form.get_by_label("Search:").fill(text)
        form.get_by_text("Showing 1 to 1 of 1").wait_for()
        assert "8.3" in form.locator("tbody tr").inner_text()
    form.get_by_label("Search:").fill("")
    layer_digest = apart(layers_of, served.requests.url, "vm/centos8:8.3")[-1]
    form.get_by_label("Contains").fill(layer_digest[:19])
    form.get_by_label("Contains").press("Enter")
    form.get_by_text("Matched by the digest: layer").wait_for()
    assert "8.3" in form.locator("tbody").inner_text()
    meanings = form.locator("thead th").evaluate_all("found => found.filter(e => e.offsetWidth).map(e => e.title)")
    assert all(meanings), meanings
    opened(page, f"{served.url}/ui/01-inventory")
    settled(page, "01-inventory")
    ids = page.locator(".dt-container [id]").evaluate_all("found => found.map(e => e.id)")
    assert len(ids) == len(set(ids)) > 2


def test_a_pasted_curl_line_becomes_a_plan(served: Served, page: Any) -> None:
    """A mount with an unquoted &: the page says what a shell cuts off, and plans the copy that was meant."""
    digest = apart(layers_of, served.requests.url, "vm/centos8:8.3")[-1]
    opened(page, f"{served.url}/ui/30-api-console")
    settled(page, "30-api-console")
    form = page.locator(".regnb-form").first
    line = f"curl -X POST r:5000/v2/new/blobs/uploads/?mount={digest}&from=vm/centos8"
    form.get_by_label("curl", exact=True).fill(line)
    form.get_by_label("curl", exact=True).press("Enter")
    form.get_by_text("never sends &from=vm/centos8").wait_for()
    page.wait_for_timeout(500)
    button(form, "^Preview$").click()
    form.get_by_text("3 tags will be set").or_(form.get_by_text("4 tags will be set")).first.wait_for()
    assert "regnb copy vm/centos8:TAG --to new:TAG" in part(form, "Preview").inner_text()
    check_that_nothing_was_written(served.requests, asked=False)


def test_a_page_follows_the_theme_of_the_system(served: Served, page: Any) -> None:
    """Without a theme in its address, also while it is open; the texts of its charts have the grey of the theme."""
    page.emulate_media(color_scheme="dark")
    opened(page, f"{served.url}/ui/02-storage")
    settled(page, "02-storage")
    found = {}
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(500)
        assert contrast(page.locator("h1").first) > 4.5
        title = page.locator(".js-plotly-plot .gtitle").first
        found[scheme] = title.evaluate("title => getComputedStyle(title).fill")
    assert found == {"dark": "rgb(196, 196, 196)", "light": "rgb(89, 89, 89)"}


def test_a_read_only_page_gives_the_plan_and_keeps_the_button_off(served: Served, page: Any, tmp_path: Path) -> None:
    """A preview works; its code cannot be typed; the plan can be saved and is one that regnb apply takes."""
    opened(page, f"{served.url}/ui/12-delete?repository=vm/centos8")
    form = page.locator(".regnb-form").first
    form.locator("tbody tr", has_text="8.3").first.click()
    form.get_by_text("1 chosen").wait_for()
    page.wait_for_timeout(500)
    button(form, "^Preview$").click()
    link = form.get_by_role("link", name="download it")
    link.wait_for()
    for control in (form.locator("button.mod-danger").first, form.get_by_label("Code")):
        assert control.is_hidden()
        assert control.is_disabled()
    with page.expect_download() as saved:
        link.click()
    saved.value.save_as(tmp_path / "plan.json")
    from regnb.change.plan import Plan  # noqa: PLC0415

    assert [step.repository for step in Plan.load(tmp_path / "plan.json").steps] == ["vm/centos8"]
    check_that_nothing_was_written(served.requests)


def test_a_page_that_is_left_ends_its_kernel(served: Served, page: Any) -> None:
    """At once, not only when it was idle for long."""
    from test_ui import kernels, until  # noqa: PLC0415

    opened(page, f"{served.url}/ui/13-retention")
    settled(page, "13-retention")
    page.wait_for_timeout(6000)  # until there is one in reserve again
    there = kernels(served.site)
    page.goto(f"{served.url}/ui/healthz")
    until(served.site, there - 1)


@pytest.fixture
def writing(writable: Seeded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Seeded, str]]:
    """Each registry behind nginx with a UI that may write, for those who know the token."""
    need("proxy", reverse.PROGRAM, "nginx is not installed (apt-get install nginx-light)")
    monkeypatch.setenv("REGNB_RECEIPTS", str(tmp_path / "receipts"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with (
        Site(tmp_path / "ui.log", writable.url, "--write-token-file", token_file(tmp_path, TOKEN)) as site,
        reverse.nginx(tmp_path / "nginx", {"/ui": f"127.0.0.1:{site.port}", "/v2": writable.host}) as front,
    ):
        (tmp_path / "operators.token").unlink()  # it was read
        yield writable, front.url
        assert TOKEN not in site.printed()


def enter(page: Any, url: str) -> None:
    """Open a page, and give the token that is asked for."""
    page.goto(url)
    page.get_by_label("Token").fill("a-token-that-is-wrong")
    page.get_by_role("button", name="Open").click()
    assert page.get_by_role("alert").inner_text() == "That is not the token."
    assert faults(page, "html") == []
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Open").click()
    page.locator("#rendered_cells").wait_for(state="visible")


def test_delete_and_undo(writing: tuple[Seeded, str], page: Any, screenshots: Path) -> None:
    """Token, sort, filter, choose, preview, a wrong code, the right one, receipt, undo; the registry is as it was."""
    registry, url = writing
    names = ("vm/centos8", "vm/test/centos8")
    before = apart(state, registry.url, *names)
    enter(page, f"{url}/ui/12-delete")
    form = page.locator(".regnb-form").first
    form.get_by_label("Search:").fill("centos8")
    form.locator("thead th", has_text="size").click()
    # Sorted a moment after the click: the smallest, and not the first of its name in the inventory.
    form.locator("tbody tr:first-child", has_text="8.3").click()
    form.get_by_text("1 chosen").wait_for()
    form.get_by_text("incomplete:").click()
    typed = plan(form)
    form.get_by_label("Code").fill("00000000")
    page.wait_for_timeout(500)
    assert is_off(form)
    assert apart(state, registry.url, *names) == before
    apply(form, typed)
    finished(form, "delete")
    assert " for token operators, 127.0.0.1" in form.inner_text(), "who did it stands in the receipt"
    page.screenshot(path=screenshots / f"ui-12-delete-receipt-{registry.kind}.png", full_page=True)
    assert set(before) - set(apart(state, registry.url, *names)) == {"vm/centos8:8.3"}
    button(form, "^Undo").click()
    form.get_by_text(re.compile("^undo on")).wait_for()
    apply(form, form.locator(".regnb-code").inner_text())
    finished(form, "undo")
    assert apart(state, registry.url, *names) == before
    page.get_by_role("button", name="Log out (operators)").click()
    page.get_by_text("You are logged out").wait_for()
    assert faults(page, "html") == []
    page.goto(f"{url}/ui/12-delete")
    page.get_by_label("Token").wait_for()


FOCUSED = """(e => (e.labels?.[0]?.innerText || e.getAttribute('aria-label') || e.innerText || e.tagName).trim())
(document.activeElement)"""


class Keyboard:
    """Somebody without a mouse, and how often Tab was pressed since the top of the page."""

    def __init__(self, page: Any) -> None:
        self.page, self.press, self.type, self.tabs = page, page.keyboard.press, page.keyboard.type, 0

    def tab_to(self, what: str, back: str = "") -> None:
        for _ in range(20):
            self.press(f"{back}Tab")
            self.tabs += 1
            if str(self.page.evaluate(FOCUSED)).startswith(what):
                return
        pytest.fail(f"Tab does not reach {what}")

    def skip(self) -> None:
        """From the top of the page to its form."""
        self.tabs = 0
        self.tab_to("Skip")
        self.press("Enter")

    def is_at(self, what: str) -> None:
        # Not wait_for_function: it asks again by eval, which the page's own policy forbids.
        for _ in range(600):
            if str(self.page.evaluate(FOCUSED)).startswith(what):
                return
            self.page.wait_for_timeout(50)
        pytest.fail(f"the focus is not at {what} but at {self.page.evaluate(FOCUSED)}")

    def confirm(self, form: Any) -> None:
        """Type the code that the preview shows, and go on to the button."""
        code = form.locator(".regnb-code").first
        code.wait_for()
        self.is_at("Code")
        self.type(code.inner_text())
        form.locator("button.mod-danger:enabled").first.wait_for()
        self.press("Enter")
        self.is_at("Apply")


def test_a_deletion_by_keyboard_alone(writing: tuple[Seeded, str], page: Any) -> None:
    """From the top of the page to the receipt in at most twelve tabs: the focus goes to the next step by itself.

    From the receipt to its undo in at most twelve, too.
    """
    registry, url = writing
    before = apart(state, registry.url, "vm/centos8")
    keys = Keyboard(page)
    page.goto(f"{url}/ui/12-delete?repository=vm/centos8")
    page.get_by_label("Token").wait_for()
    keys.type(TOKEN)
    keys.press("Enter")
    form = page.locator(".regnb-form").first
    form.locator("tbody tr").first.wait_for()
    page.wait_for_timeout(1000)
    keys.skip()
    keys.is_at("Search")
    keys.type("8.4")
    form.get_by_text("Showing 1 to 1 of 1").wait_for()
    keys.press("ArrowDown")
    keys.press("Space")
    form.get_by_text("1 chosen").wait_for()
    keys.tab_to("In use")
    keys.press("Enter")
    keys.is_at("Preview")
    page.wait_for_timeout(500)
    keys.press("Enter")
    if registry.kind == "real":  # it does not delete a tag alone
        keys.is_at("dummy")
        keys.press("Space")
    keys.confirm(form)
    page.wait_for_timeout(500)
    assert "vm/centos8:8.4" in apart(state, registry.url, "vm/centos8"), "Enter leads to the button and presses none"
    keys.press("Space")
    finished(form, "delete")
    keys.is_at("delete on ")
    assert keys.tabs <= 12
    assert "vm/centos8:8.4" not in apart(state, registry.url, "vm/centos8")
    keys.tabs = 0
    keys.tab_to("Undo")
    page.wait_for_timeout(500)
    keys.press("Enter")
    form.get_by_text(re.compile("^undo on")).wait_for()
    keys.confirm(form)
    keys.press("Space")
    finished(form, "undo")
    assert keys.tabs <= 12
    assert apart(state, registry.url, "vm/centos8") == before


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("10-retag", {"New tag": "stable"}),
        ("11-copy", {"Copy to": "archive/{repository}:{tag}"}),
        ("12-delete", {"In use": ""}),
        ("13-retention", {"In use": ""}),
        ("14-collect", {"Grace": "0h"}),
        ("30-api-console", {"Path": "/v2/vm/centos8/tags/list"}),
    ],
)
def test_a_form_is_filled_in_by_keyboard(served: Served, page: Any, name: str, steps: dict[str, str]) -> None:
    """From the top of the page to the preview in at most twelve tabs; every control has a name of its own."""
    opened(page, f"{served.url}/ui/{name}?repository=vm/centos8" if name < "13" else f"{served.url}/ui/{name}")
    settled(page, name)
    form = page.locator(".regnb-form").first
    unnamed = form.locator("input:visible, select:visible, textarea:visible, button:visible").evaluate_all(
        "found => found.filter(e => !(e.labels?.[0]?.innerText || e.getAttribute('aria-label') || e.innerText).trim())"
        ".map(e => e.outerHTML)"
    )
    assert unnamed == []
    keys = Keyboard(page)
    keys.skip()
    if form.locator(".dt-search").count():
        keys.press("ArrowDown")
        keys.press("Space")
        form.get_by_text("1 chosen").wait_for()
    for field, text in steps.items():
        if not str(page.evaluate(FOCUSED)).startswith(field):
            keys.tab_to(field)
        keys.press("Control+a")
        keys.type(text)
        page.wait_for_timeout(500)
        keys.press("Enter")
    keys.is_at("Send" if name == "30-api-console" else "Preview")
    keys.press("Enter")
    said = form.locator("a[download], pre:visible").or_(form.get_by_text("There is nothing to do"))
    said.first.wait_for()
    assert form.get_by_role("alert").count() == 0
    assert keys.tabs <= 12
    check_that_nothing_was_written(served.requests)


def test_every_form_of_a_page_has_a_link_at_its_top(served: Served, page: Any) -> None:
    """The forms of the trash, below the one that collects: from the top of the page to their plan in few tabs."""
    opened(page, f"{served.url}/ui/14-collect")
    settled(page, "14-collect")
    page.get_by_role("heading", name="Empty the trash").wait_for()
    keys = Keyboard(page)
    keys.tab_to("Skip to Empty the trash")
    keys.press("Enter")
    keys.is_at("Older than")
    keys.press("Enter")
    keys.is_at("Preview")
    keys.press("Enter")
    page.locator(".regnb-form").nth(2).get_by_text("There is nothing to do").wait_for()
    assert keys.tabs <= 12


def test_manifests_are_made_by_keyboard(served: Served, page: Any) -> None:
    """From the top of the page over the host to the link that downloads them, in at most twelve tabs."""
    opened(page, f"{served.url}/ui/31-expose-on-kubernetes")
    settled(page, "31-expose-on-kubernetes")
    keys = Keyboard(page)
    keys.skip()
    keys.is_at("Host")
    keys.press("Control+a")
    keys.type("repo.example.org")
    page.locator(".regnb-form").get_by_text("--host repo.example.org").first.wait_for()
    keys.press("Enter")
    keys.is_at("Download")
    assert keys.tabs <= 12


def planned_by_keyboard(page: Any, form: Any, keys: Keyboard, served: Served) -> None:
    """Enter leads to the preview, and that to a plan: in at most twelve tabs from the top, with nothing written."""
    page.wait_for_timeout(500)
    keys.press("Enter")
    keys.is_at("Preview")
    keys.press("Enter")
    form.locator("a[download]").first.wait_for()
    assert keys.tabs <= 12
    check_that_nothing_was_written(served.requests)


def test_a_tag_is_renamed_by_keyboard(served: Served, page: Any) -> None:
    """The form below the one that copies: from the top of the page to the plan in at most twelve tabs."""
    opened(page, f"{served.url}/ui/11-copy?repository=vm/centos8")
    settled(page, "11-copy")
    form = page.locator(".regnb-form").nth(1)
    form.locator("tbody tr").first.wait_for()
    keys = Keyboard(page)
    keys.tab_to("Skip to Rename")
    keys.press("Enter")
    keys.is_at("Search")
    keys.press("ArrowDown")
    keys.press("Space")
    form.get_by_text("1 chosen").wait_for()
    keys.tab_to("New name")
    keys.type("renamed")
    planned_by_keyboard(page, form, keys, served)


def test_an_image_is_retagged_by_keyboard(served: Served, page: Any) -> None:
    """From the top of the image's page to the plan in at most twelve tabs; its row is chosen already.

    The page compares two images that its address names.
    """
    opened(page, f"{served.url}/ui/03-image?reference=vm/centos8:8.3&other=vm/centos8:8.4")
    page.locator("tr", has_text=re.compile(r"layer sha256:.*COPY disk")).first.wait_for()
    page.locator(".regnb-opens button").first.wait_for()
    page.wait_for_timeout(1500)
    keys = Keyboard(page)
    keys.skip()
    keys.is_at("Retag")
    keys.press("Enter")
    form = page.locator(".regnb-opens .regnb-form")
    form.get_by_text("1 chosen").wait_for()
    keys.tab_to("New tag")
    keys.type("stable")
    planned_by_keyboard(page, form, keys, served)


def test_a_pasted_digest_says_who_shares_and_what_is_freed(seeded_real: Seeded, page: Any, tmp_path: Path) -> None:
    """On docker-registry 2.8, in four inputs: paste the digest, choose the tag, preview, unfold who shares it.

    The line that pulls the image can be selected and copied whole.
    """
    digest = apart(state, seeded_real.url, "vm/centos8")["vm/centos8:8.3"].digest
    with Site(tmp_path / "ui.log", seeded_real.url) as site:
        opened(page, f"{site.base}12-delete")
        form = page.locator(".regnb-form").first
        form.get_by_label("Search:").fill(digest)
        form.locator("tbody tr", has_text="8.3").click()
        form.get_by_text("1 chosen").wait_for()
        line = form.locator("code", has_text="docker pull").first
        line.click(click_count=3)
        host = seeded_real.url.partition("://")[2]
        assert page.evaluate("getSelection().toString().trim()") == f"docker pull {host}/vm/centos8@{digest}"
        page.wait_for_timeout(500)
        button(form, "^Preview$").click()
        shown = part(form, "Preview")
        shown.get_by_text("frees at most").first.wait_for()
        shown.get_by_text("2 repositories need some of these layers").click()
        shown.get_by_text("vm/test/centos8").first.wait_for(state="visible")
        assert "1 tag and 1 manifest will be gone" in shown.inner_text()


def test_a_long_table_is_chosen_from_page_by_page(real: Distribution, page: Any, tmp_path: Path) -> None:
    """Of 2,100 tags: what is chosen on one page stays while another is looked at; a sort and a filter see them all."""
    apart(fill, real.url, ("a/b", "v0", image([layer(1, 100)], about=config())))
    tags = real.root / "docker/registry/v2/repositories/a/b/_manifests/tags"
    for number in range(1, 2100):
        shutil.copytree(tags / "v0", tags / f"v{number}")
    with Site(tmp_path / "ui.log", real.url) as site:
        opened(page, f"{site.base}10-retag")
        form = page.locator(".regnb-form").first
        form.get_by_text("rows 1 to 100 of 2,100").wait_for()
        form.get_by_label("Sort by").select_option("tag")
        form.locator("tbody tr", has_text="v999").click()
        form.get_by_text("1 chosen").wait_for()
        button(form, "^Next page$").click()
        form.get_by_text("rows 101 to 200 of 2,100").wait_for()
        page.wait_for_timeout(700)
        form.locator("tbody tr").nth(3).click()
        form.get_by_text("2 chosen").wait_for()
        button(form, "^Previous page$").click()
        form.get_by_text("rows 1 to 100 of 2,100").wait_for()
        page.wait_for_timeout(700)
        assert form.locator("tbody tr.selected").count() == 1
        assert "2 chosen" in part(form, "Choose").inner_text()
        form.get_by_label("Filter").fill("b:v20")
        form.get_by_label("Filter").press("Enter")
        button(form, "^Choose all 111$").click()
        form.get_by_text("111 chosen").wait_for()
        page.wait_for_timeout(700)
        assert "111 chosen" in part(form, "Choose").inner_text()


def test_a_registry_that_stops_is_said(real: Distribution, page: Any, tmp_path: Path) -> None:
    """While a form is open, and before a page is: a sentence with what to do, and no traceback."""
    apart(fill, real.url, ("a/b", "1", image([layer(1, 100)], about=config())))
    with Site(tmp_path / "ui.log", real.url) as site:
        opened(page, f"{site.base}10-retag")
        form = page.locator(".regnb-form").first
        form.locator("tbody tr").first.click()
        form.get_by_text("1 chosen").wait_for()
        form.get_by_label("New tag").fill("2")
        real.stop()
        page.wait_for_timeout(500)
        button(form, "^Preview$").click()
        form.get_by_role("alert").wait_for()
        assert "refuses connections" in form.get_by_role("alert").inner_text()
        for name in ("", "10-retag"):
            opened(page, site.base + name)
            page.get_by_text("refuses connections").first.wait_for()
            assert page.get_by_text("Traceback").count() == 0
