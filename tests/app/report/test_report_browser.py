"""The page of `scmrl report` in a browser: phone, dark mode, print, without scripts, without network requests."""

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image
from playwright.sync_api import Browser

from app.browser import RecordedPage, open_browser, open_page, overflow
from app.finished import finished_run
from app.tiny import write_tiny_dataset
from present import present
from scmrl.commands.report import report
from scmrl.report import page as page_module

pytestmark = pytest.mark.needs("browser")

OWNED = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
LONG = "a_class_name_without_a_line_break_" * 3
AA_TEXT = 4.5
"""Contrast ratio of text that WCAG 2.2 requires at level AA."""
AA_LINES = 3.0
"""The same for lines in charts."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a page about two runs and a study, with long and hostile names."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "data").mkdir()
    manifest = write_tiny_dataset(folder / "data", train=40, test=14) / "manifest.csv"
    quoted = '"' + OWNED.replace('"', '""') + '"'
    manifest.write_text(manifest.read_text().replace(",left,", f",{quoted},").replace(",right,", f",{LONG},"))
    first = finished_run(folder / "data", folder / "run", "--train.selection", "test")
    second = Path(shutil.copytree(first, folder / ("run_" * 20)))
    study = folder / "study"
    study.mkdir()
    (study / "plot.svg").write_text(
        "<svg xmlns='http://www.w3.org/2000/svg' width='900' height='90'>"
        "<script>top.document.title='owned'</script><image href='http://127.0.0.1:9/x.png'/></svg>"
    )
    cells = ", ".join(f'"{LONG}{column}"' for column in range(6))
    (study / "results.json").write_text(
        '{"format_version": 1, "kind": "ablation", "title": "A study", "notes": [], '
        f'"tables": [{{"title": "wide", "columns": [{cells}], "rows": [[{cells}]]}}], '
        '"plots": [{"title": "a plot", "file": "plot.svg"}]}'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_module, "EXAMPLES", (1, 1))
        report(first, second, study, out=folder / "report.html")
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


def unfold(recorded: RecordedPage) -> None:
    recorded.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")


def test_the_page_sends_no_requests_and_logs_no_errors(browser: Browser, page: str):
    with open_page(browser) as recorded:
        recorded.page.goto(page)
        unfold(recorded)
        recorded.page.wait_for_load_state("networkidle")
        assert recorded.requests == [page]
        assert recorded.errors == []
        assert recorded.page.title() == "2 runs and 1 study"
        assert recorded.page.locator("img, svg[role=img]").count() > 8
        assert recorded.page.evaluate("[...document.images].every(each => each.complete && each.naturalWidth > 0)")


def test_hostile_names_are_shown_and_not_executed(browser: Browser, page: str):
    with open_page(browser) as recorded:
        recorded.page.goto(page)
        assert recorded.page.get_by_text(OWNED).first.is_visible()
        assert recorded.page.locator("script, [onerror], img[src=x]").count() == 0


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_only_wide_elements_scroll_horizontally(browser: Browser, page: str, width: int):
    with open_page(browser, width=width) as recorded:
        recorded.page.goto(page)
        unfold(recorded)
        assert overflow(recorded.page) == []
        wide = "[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth).length"
        assert recorded.page.evaluate(wide) > 0


@pytest.mark.parametrize("width", [1100, 800])
def test_the_table_of_missing_modalities_is_fully_visible(browser: Browser, page: str, width: int):
    with open_page(browser, width=width) as recorded:
        recorded.page.goto(page)
        tables = recorded.page.get_by_role("region", name="scores without some modalities").all()
        assert len(tables) == 2
        for table in tables:
            assert table.evaluate("each => each.scrollWidth <= each.clientWidth")


# The background of an element is that of its first ancestor that is not transparent. Colors are drawn on a canvas and
# read back, because browsers format them in several ways. Semitransparent colors do not occur.
CONTRASTS = """selector => {
    const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const pixel = color => {
        context.clearRect(0, 0, 1, 1); context.fillStyle = color; context.fillRect(0, 0, 1, 1);
        return context.getImageData(0, 0, 1, 1).data;
    };
    const light = color => {
        const [r, g, b] = [...pixel(color)].map(each => each / 255)
            .map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    return [...document.querySelectorAll(selector)].map(each => {
        let behind = each;
        while (pixel(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
        const style = getComputedStyle(each);
        const color = each instanceof SVGElement && style.stroke !== "none" ? style.stroke : style.color;
        const [dim, bright] = [light(color), light(getComputedStyle(behind).backgroundColor)].sort((a, b) => a - b);
        return (bright + 0.05) / (dim + 0.05);
    });
}"""
TEXTS = ".muted, .mark, .state, .is-correct, .is-wrong, a, summary, caption, th, td, dt, dd, figcaption, pre, h1, h2, p"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_contrast_with_the_background(browser: Browser, page: str, scheme: Literal["light", "dark"]):
    with open_page(browser, scheme=scheme) as recorded:
        recorded.page.goto(page)
        unfold(recorded)
        texts = recorded.page.evaluate(CONTRASTS, TEXTS)
        assert len(texts) > 500
        assert min(texts) >= AA_TEXT
        assert min(recorded.page.evaluate(CONTRASTS, ".legend line")) >= AA_LINES


def test_figures_have_the_page_background_in_dark_mode(browser: Browser, page: str):
    with open_page(browser, scheme="dark") as recorded:
        recorded.page.goto(page)
        unfold(recorded)
        background = recorded.page.evaluate("getComputedStyle(document.body).backgroundColor")
        figures = recorded.page.locator(".figure svg, .figure img").all()
        assert len(figures) > 6
        for each in figures:
            with Image.open(io.BytesIO(each.screenshot())) as image:
                assert str(image.convert("RGB").getpixel((3, 3))) == background.removeprefix("rgb")
        fills = "[...document.querySelectorAll('.figure {} text')].map(each => getComputedStyle(each).fill)"
        text = recorded.page.evaluate("getComputedStyle(document.body).color")
        muted = recorded.page.evaluate("getComputedStyle(document.querySelector('.muted')).color")
        assert set(recorded.page.evaluate(fills.format("svg:not(.model)"))) == {text}
        assert set(recorded.page.evaluate(fills.format("svg.model"))) == {text, muted}


def test_labels_in_figures_are_legible_on_a_phone(browser: Browser, page: str):
    sizes = """[...document.querySelectorAll('.figure text')].map(
        each => parseFloat(getComputedStyle(each).fontSize) * Math.abs(each.ownerSVGElement.getScreenCTM().a))"""
    with open_page(browser, width=390) as recorded:
        recorded.page.goto(page)
        unfold(recorded)
        measured = recorded.page.evaluate(sizes)
        assert len(measured) > 100
        assert min(measured) > 6.5


def test_no_figure_is_taller_than_a_printed_page(browser: Browser, page: str):
    heights = "[...document.querySelectorAll('figure')].map(each => each.getBoundingClientRect().height)"
    with open_page(browser, width=688) as recorded:
        recorded.page.goto(page)
        unfold(recorded)
        page_height = (297 - 2 * 16) / 25.4 * 96
        assert max(recorded.page.evaluate(heights)) > page_height
        recorded.page.emulate_media(media="print")
        assert max(recorded.page.evaluate(heights)) < page_height


def test_dark_mode_changes_background_and_figures(browser: Browser, page: str):
    colors: dict[str, tuple[str, ...]] = {}
    for scheme in ("light", "dark"):
        with open_page(browser, scheme=scheme) as recorded:
            recorded.page.goto(page)
            text = recorded.page.locator("figure svg text").first.evaluate("each => getComputedStyle(each).fill")
            background = recorded.page.evaluate("getComputedStyle(document.body).backgroundColor")
            colors[scheme] = (background, text)
    brightness = {
        scheme: [sum(map(int, re.findall(r"\d+", color)[:3])) for color in pair] for scheme, pair in colors.items()
    }
    (light_background, light_text), (dark_background, dark_text) = brightness["light"], brightness["dark"]
    assert light_background > 3 * 230 > 3 * 100 > light_text
    assert dark_text > 3 * 200 > 3 * 50 > dark_background


def test_print_shows_all_details_and_no_navigation(browser: Browser, page: str, tmp_path: Path):
    with open_page(browser, width=690, scheme="dark") as recorded:
        recorded.page.goto(page)
        assert recorded.page.locator("nav").is_visible()
        folded = recorded.page.locator("details:not([open])")
        assert folded.count() > 4
        assert not folded.locator("pre").first.is_visible()
        recorded.page.emulate_media(media="print")
        assert not recorded.page.locator("nav").is_visible()
        assert recorded.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        for inner in ("pre", "table", "dl", "svg"):
            for each in folded.locator(inner).all():
                assert each.is_visible()
        assert recorded.page.pdf(format="A4").startswith(b"%PDF")


def test_links_and_details_work_without_scripts(browser: Browser, page: str):
    with open_page(browser, width=390, scripts=False) as recorded:
        recorded.page.goto(page)
        link = recorded.page.locator("nav a", has_text="Confusion").first
        link.click()
        target = recorded.page.locator(str(link.get_attribute("href")))
        assert target.is_visible()
        assert abs(present(target.bounding_box())["y"]) < 5
        recorded.page.locator("summary", has_text="All settings").first.click()
        assert recorded.page.locator("details[open] pre").first.is_visible()
