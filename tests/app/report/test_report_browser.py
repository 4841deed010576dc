"""The page of `scmrl report` in a real browser: phone, dark mode, paper, no scripts, nothing asked of a network."""

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser

from app.browser import Watched, open_browser, open_page, overflow
from app.finished import finished_run
from app.tiny import write_tiny_dataset
from scmrl.commands.report import report
from scmrl.report import page as page_module

pytestmark = pytest.mark.needs("browser")

OWNED = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
LONG = "a_class_whose_name_has_no_place_to_break_" * 3
AA_TEXT = 4.5
"""Contrast of text to what is behind it that WCAG 2.2 asks for at level AA."""
AA_LINES = 3.0
"""The same of lines in drawings."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page about two runs and a study, with names that are long or hostile."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "data").mkdir()
    manifest = write_tiny_dataset(folder / "data", train=40, test=14) / "manifest.csv"
    quoted = '"' + OWNED.replace('"', '""') + '"'
    manifest.write_text(manifest.read_text().replace(",left,", f",{quoted},").replace(",right,", f",{LONG},"))
    first = finished_run(folder / "data", folder / "run", "--train.selection", "published")
    second = Path(shutil.copytree(first, folder / ("run_" * 20)))
    study = folder / "study"
    study.mkdir()
    (study / "plot.svg").write_text(
        "<svg xmlns='http://www.w3.org/2000/svg' width='900' height='90'>"
        "<script>top.document.title='owned'</script><image href='http://127.0.0.1:9/x.png'/></svg>"
    )
    cells = ", ".join(f'"{LONG}{place}"' for place in range(6))
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


def unfold(watched: Watched) -> None:
    watched.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")


def test_it_asks_for_nothing_and_complains_of_nothing(browser, page):
    with open_page(browser) as watched:
        watched.page.goto(page)
        unfold(watched)
        watched.page.wait_for_load_state("networkidle")
        assert watched.requests == [page]
        assert watched.complaints == []
        assert watched.page.title() == "2 runs and 1 study"
        assert watched.page.locator("img, svg[role=img]").count() > 8
        assert watched.page.evaluate("[...document.images].every(each => each.complete && each.naturalWidth > 0)")


def test_hostile_names_are_read_and_not_run(browser, page):
    with open_page(browser) as watched:
        watched.page.goto(page)
        assert watched.page.get_by_text(OWNED).first.is_visible()
        assert watched.page.locator("script, [onerror], img[src=x]").count() == 0


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_only_what_is_wide_scrolls_sideways(browser, page, width):
    with open_page(browser, width=width) as watched:
        watched.page.goto(page)
        unfold(watched)
        assert overflow(watched.page) == []
        wide = "[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth).length"
        assert watched.page.evaluate(wide) > 0


# What is behind an element: the first ancestor that is not transparent. Colors are drawn to be read as numbers, since
# a browser writes them in several ways; what is mixed with transparency would need more than that, and does not occur.
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
TEXTS = ".quiet, .mark, .remark, .yes, .no, a, summary, caption, th, td, dt, dd, figcaption, pre, h1, h2, p"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_stand_out_from_the_paper(browser, page, scheme):
    with open_page(browser, scheme=scheme) as watched:
        watched.page.goto(page)
        unfold(watched)
        texts = watched.page.evaluate(CONTRASTS, TEXTS)
        assert len(texts) > 500
        assert min(texts) >= AA_TEXT
        assert min(watched.page.evaluate(CONTRASTS, ".keys line")) >= AA_LINES


def test_pictures_lie_on_the_paper_in_dark_mode(browser, page):
    with open_page(browser, scheme="dark") as watched:
        watched.page.goto(page)
        unfold(watched)
        paper = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
        pictures = watched.page.locator(".plate svg, .plate img").all()
        assert len(pictures) > 6
        for each in pictures:
            with Image.open(io.BytesIO(each.screenshot())) as seen:
                assert str(seen.convert("RGB").getpixel((3, 3))) == paper.removeprefix("rgb")
        fills = "[...document.querySelectorAll('.plate {} text')].map(each => getComputedStyle(each).fill)"
        ink = watched.page.evaluate("getComputedStyle(document.body).color")
        quiet = watched.page.evaluate("getComputedStyle(document.querySelector('.quiet')).color")
        assert set(watched.page.evaluate(fills.format("svg:not(.model)"))) == {ink}
        assert set(watched.page.evaluate(fills.format("svg.model"))) == {ink, quiet}


def test_labels_of_pictures_are_legible_on_a_phone(browser, page):
    sizes = """[...document.querySelectorAll('.plate text')].map(
        each => parseFloat(getComputedStyle(each).fontSize) * Math.abs(each.ownerSVGElement.getScreenCTM().a))"""
    with open_page(browser, width=390) as watched:
        watched.page.goto(page)
        unfold(watched)
        found = watched.page.evaluate(sizes)
        assert len(found) > 100
        assert min(found) > 6.5


def test_no_picture_is_higher_than_a_sheet(browser, page):
    heights = "[...document.querySelectorAll('figure')].map(each => each.getBoundingClientRect().height)"
    with open_page(browser, width=688) as watched:
        watched.page.goto(page)
        unfold(watched)
        sheet = (297 - 2 * 16) / 25.4 * 96
        assert max(watched.page.evaluate(heights)) > sheet
        watched.page.emulate_media(media="print")
        assert max(watched.page.evaluate(heights)) < sheet


def test_dark_mode_changes_paper_and_drawings(browser, page):
    seen: dict[str, tuple[str, ...]] = {}
    for scheme in ("light", "dark"):
        with open_page(browser, scheme=scheme) as watched:
            watched.page.goto(page)
            drawn = watched.page.locator("figure svg text").first.evaluate("each => getComputedStyle(each).fill")
            paper = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
            seen[scheme] = (paper, drawn)
    numbers = {
        scheme: [sum(map(int, re.findall(r"\d+", each)[:3])) for each in found] for scheme, found in seen.items()
    }
    (light_paper, light_ink), (dark_paper, dark_ink) = numbers["light"], numbers["dark"]
    assert light_paper > 3 * 230 > 3 * 100 > light_ink
    assert dark_ink > 3 * 200 > 3 * 50 > dark_paper


def test_paper_shows_all_and_no_navigation(browser, page, tmp_path):
    with open_page(browser, width=690, scheme="dark") as watched:
        watched.page.goto(page)
        assert watched.page.locator("nav").is_visible()
        folded = watched.page.locator("details:not([open])")
        assert folded.count() > 4
        assert not folded.locator("pre").first.is_visible()
        watched.page.emulate_media(media="print")
        assert not watched.page.locator("nav").is_visible()
        assert watched.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        for inner in ("pre", "table", "dl", "svg"):
            for each in folded.locator(inner).all():
                assert each.is_visible()
        assert watched.page.pdf(format="A4").startswith(b"%PDF")


def test_it_is_read_without_scripts_and_found_by_its_contents(browser, page):
    with open_page(browser, width=390, scripts=False) as watched:
        watched.page.goto(page)
        link = watched.page.locator("nav a", has_text="Confusion").first
        link.click()
        target = watched.page.locator(str(link.get_attribute("href")))
        assert target.is_visible()
        assert abs(target.bounding_box()["y"]) < 5
        watched.page.locator("summary", has_text="All settings").first.click()
        assert watched.page.locator("details[open] pre").first.is_visible()
