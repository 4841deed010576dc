"""The page of `scmrl demo` as a person meets it, in a real browser, held against the model's own answers."""

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
import torch
from playwright.sync_api import Browser, Page, Request, Route, expect

from app.browser import Watched, open_browser, open_page, overflow
from app.commands.test_predict_command import write_video
from app.serving import Served, served, tiny_run, warm_up
from scmrl.demo.noise import disturbed
from scmrl.engine.predict import read_file
from scmrl.run_folder.inputs import load_inputs
from snn_datasets import Draw
from snn_fusion import from_pretrained

pytestmark = pytest.mark.needs("browser")

WAIT = 60_000
"""Milliseconds that a busy machine may take; nothing waits longer than it has to."""
DROP = """([name, content]) => {
    const bytes = Uint8Array.from(atob(content), sign => sign.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], name));
    for (const kind of ["dragenter", "dragover", "drop"]) {
        const event = new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
        document.querySelector("#drop").dispatchEvent(event);
    }
}"""
BEYOND_CARDS = """() => [...document.querySelectorAll(".sense *")]
    .filter(each => each.checkVisibility())
    .filter(each => each.getBoundingClientRect().right > each.closest(".sense").getBoundingClientRect().right)
    .map(each => each.outerHTML.slice(0, 120))"""
UNLABELED = """() => [...document.querySelectorAll("input, select, button, canvas")]
    .filter(each => each.checkVisibility() || each.type === "file")
    .filter(each => !(each.labels?.length || each.getAttribute("aria-label") || each.textContent.trim()))
    .map(each => each.outerHTML)"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory)


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[Served]:
    with served(run, largest_upload=1_000_000) as server:
        warm_up(server)
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@contextmanager
def visited(
    browser: Browser, server: Served, *, width: int = 1280, scheme: Literal["light", "dark"] = "light"
) -> Iterator[Watched]:
    """The page once its first sample is answered; in the end it has asked nobody else and complained of nothing."""
    with open_page(browser, width=width, scheme=scheme) as watched:
        watched.page.set_default_timeout(WAIT)
        watched.page.goto(server.url)
        watched.page.wait_for_selector("#samples:visible")
        expect(watched.page.locator("#said")).to_contain_text("It says", timeout=WAIT)
        expect(watched.page.locator("main")).to_have_attribute("aria-busy", "false", timeout=WAIT)
        yield watched
        assert not watched.complaints
        assert all(request.removeprefix("blob:").startswith(server.url) for request in watched.requests)


def drop(page: Page, name: str, content: bytes) -> None:
    page.evaluate(DROP, [name, base64.b64encode(content).decode()])


def shows(page: Page, probabilities: torch.Tensor) -> None:
    """Wait until the bars show these probabilities, and the headline the largest."""
    texts = [f"{100 * share:.1f} %" for share in probabilities.tolist()]
    expect(page.locator("#classes .share")).to_have_text(texts, timeout=WAIT)
    best = ("left", "right")[int(probabilities.argmax())]
    expect(page.locator("#said")).to_contain_text(f"It says {best}, {100 * float(probabilities.max()):.1f} % sure")


def hold(page: Page, path: str) -> list[Route]:
    """Hold back what the page asks for there from now on; each goes on when it is told to."""
    held: list[Route] = []

    def keep(route: Route) -> None:
        held.append(route)

    page.route(path, keep)
    return held


def test_a_clip_is_dropped_and_disturbed(run, browser, server, tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path)
    modalities, model = load_inputs(run).modalities, from_pretrained(run).eval()
    inputs = {name: read_file(m, path, Draw(0, "clip", name))[None] for name, m in modalities.items()}

    def says(**given: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return model(given).logits.softmax(1)[0]

    with visited(browser, server) as watched:
        page = watched.page
        drop(page, "clip.mp4", path.read_bytes())
        plain = says(**inputs)
        shows(page, plain)
        expect(page.locator("#rasters canvas").first).to_be_visible()
        expect(page.locator("#contributions .bar")).to_have_count(2)
        assert page.locator(".sense .name").all_text_contents() == ["clip.mp4", "clip.mp4"]
        assert page.locator("#undo").is_disabled()

        page.get_by_label("Mute image").check()
        alone = says(audio=inputs["audio"])
        shows(page, alone)
        expect(page.locator("#contributions .bar")).to_have_count(1)
        page.get_by_label("Mute audio").check()
        expect(page.locator("#stuck")).to_contain_text("Every sense is muted")
        page.get_by_label("Mute image").uncheck()
        shows(page, says(image=inputs["image"]))
        expect(page.locator("#stuck")).to_be_hidden()
        page.get_by_label("Mute audio").uncheck()
        shows(page, plain)

        seen = [plain, alone]
        for percent in (30, 100):
            page.get_by_label("Noise in audio").fill(str(percent))
            drawing = Draw(0, "clip.mp4", "audio", stage="demo").generator()
            noisy = disturbed(inputs["audio"][0], percent / 100, "waveform", drawing)[None]
            seen.append(says(image=inputs["image"], audio=noisy))
            shows(page, seen[-1])
        expect(page.locator("output.noise")).to_have_text(["0 %", "100 %"])
        expect(page.locator("#tick")).to_be_visible()
        page.locator("#undo").click()
        shows(page, plain)
        expect(page.locator("#tick")).to_be_hidden()
        assert page.get_by_label("Noise in audio").input_value() == "0"
        # What was shown did move.
        assert len({f"{100 * float(chances[0]):.1f}" for chances in seen}) == len(seen)


def test_the_last_of_many_moves_counts(run, browser, server):
    model, sample = from_pretrained(run).eval(), server.demo.samples[2]
    with visited(browser, server) as watched:
        page = watched.page
        page.locator("#sample").fill("2")
        page.keyboard.press("Enter")
        expect(page.locator("#said")).to_contain_text(re.compile("which is right|but it is"))
        expect(page.locator("main")).to_have_attribute("aria-busy", "false", timeout=WAIT)
        under_way, most = 0, 0

        def began(request: Request) -> None:
            nonlocal under_way, most
            under_way += request.url.endswith("/api/answers")
            most = max(most, under_way)

        def ended(request: Request) -> None:
            nonlocal under_way
            under_way -= request.url.endswith("/api/answers")

        page.on("request", began)
        page.on("requestfinished", ended)
        slider = page.get_by_label("Noise in image")
        slider.focus()
        for _ in range(40):
            page.keyboard.press("ArrowRight")
        assert slider.input_value() == "40"
        noisy = disturbed(sample.inputs["image"], 0.4, "image", Draw(0, sample.id, "image", stage="demo").generator())
        with torch.no_grad():
            shows(page, model({"image": noisy[None], "audio": sample.inputs["audio"][None]}).logits.softmax(1)[0])
        expect(page.locator("main")).to_have_attribute("aria-busy", "false", timeout=WAIT)
        assert most == 1


def test_a_random_sample_is_of_the_class_that_was_chosen(browser, server):
    with visited(browser, server) as watched:
        page = watched.page
        page.locator("#class").select_option(label="right")
        before = page.locator("#sample").input_value()
        for _ in range(8):
            page.get_by_text("Take one at random").click()
            expect(page.locator("#said")).to_contain_text(re.compile("right, .* which is right|but it is right"))
            taken = page.locator("#sample").input_value()
            assert taken in {"1", "3", "5", "7"} - {before}
            before = taken
        page.locator("#sample").fill("77")
        page.keyboard.press("Enter")
        expect(page.locator("#fault")).to_have_text("The test split has samples from 0 to 8.")


def test_a_file_takes_the_place_of_one_sense(run, browser, server):
    data = run.parent / "data"
    with visited(browser, server) as watched:
        page = watched.page
        drop(page, "a.png", (data / "test0.png").read_bytes())
        expect(page.locator(".sense .absent")).to_have_count(2)
        expect(page.locator("[data-sense=audio] .absent")).to_be_visible(timeout=WAIT)
        assert page.get_by_label("Mute audio").is_disabled()
        page.get_by_label("Another file for audio").set_input_files(data / "test0.wav")
        with torch.no_grad():
            inputs = {name: x[None] for name, x in server.demo.samples[0].inputs.items()}
            shows(page, from_pretrained(run).eval()(inputs).logits.softmax(1)[0])
        assert page.locator(".sense .name").all_text_contents() == ["a.png", "test0.wav"]


def test_a_clip_with_one_sense_that_is_muted_can_be_undone(run, browser, server):
    with visited(browser, server) as watched:
        page = watched.page
        drop(page, "a.png", (run.parent / "data" / "test0.png").read_bytes())
        expect(page.locator("[data-sense=audio] .absent")).to_be_visible(timeout=WAIT)
        expect(page.get_by_label("What to lay over image")).to_be_visible()
        for label in ("What to lay over audio", "Time step of audio"):
            expect(page.get_by_label(label)).to_be_hidden()
        page.get_by_label("Mute image").check()
        expect(page.locator("#stuck")).to_contain_text("Every sense is muted")
        expect(page.locator("[data-sense=image]")).to_contain_class("off")
        page.locator("#undo").click()
        expect(page.locator("#stuck")).to_be_hidden()
        expect(page.locator("[data-sense=image]")).not_to_contain_class("off")


def test_a_file_for_a_muted_sense_is_shown(run, browser, server):
    picture = "document.querySelector('[data-sense=image] canvas').toDataURL()"
    with visited(browser, server) as watched:
        page = watched.page
        page.locator("#sample").fill("0")
        page.keyboard.press("Enter")
        expect(page.locator("#rasters canvas").first).to_be_visible()
        page.get_by_label("Mute image").check()
        expect(page.locator("#contributions .bar")).to_have_count(1)
        before = page.evaluate(picture)
        page.get_by_label("Another file for image").set_input_files(run.parent / "data" / "test1.png")
        expect(page.locator("[data-sense=image] .name")).to_have_text("test1.png", timeout=WAIT)
        assert page.evaluate(picture) != before


def test_files_that_are_chosen_at_once_undo_no_other(run, browser, server):
    data = run.parent / "data"
    with visited(browser, server) as watched:
        page = watched.page
        page.locator("#sample").fill("0")
        page.keyboard.press("Enter")
        expect(page.locator("#said")).to_contain_text("It says")
        page.get_by_label("Another file for image").set_input_files(data / "test1.png")
        page.get_by_label("Another file for audio").set_input_files(data / "test3.wav")
        expect(page.locator(".sense .name")).to_have_text(["test1.png", "test3.wav"], timeout=WAIT)


def test_a_file_that_comes_too_late_changes_nothing_else(run, browser, server):
    with visited(browser, server) as watched:
        page = watched.page
        page.locator("#sample").fill("0")
        page.keyboard.press("Enter")
        expect(page.locator("#said")).to_contain_text("It says")
        held = hold(page, "**/api/clips?*")
        page.get_by_label("Another file for image").set_input_files(run.parent / "data" / "test1.png")
        expect(page.locator("#doing")).to_have_text("Reading test1.png …")
        page.locator("#sample").fill("5")
        page.keyboard.press("Enter")
        expect(page.locator("[data-sense=image] .name")).to_have_text("test5.png+test5.wav")
        held[0].continue_()
        told = "The file for image came when something else was looked at; choose it again for this."
        expect(page.locator("#fault")).to_have_text(told, timeout=WAIT)
        expect(page.locator("main")).to_have_attribute("aria-busy", "false", timeout=WAIT)
        expect(page.locator("[data-sense=image] .name")).to_have_text("test5.png+test5.wav")


def test_what_takes_long_is_seen_to_be_under_way(browser, server):
    with open_page(browser) as watched:
        page = watched.page
        held = hold(page, "**/api/answers")
        page.goto(server.url)
        expect(page.locator("#asking")).to_have_text("Asking the model …", timeout=WAIT)
        expect(page.locator("main")).to_have_attribute("aria-busy", "true")
        expect(page.locator("#empty")).to_be_visible()
        held[0].continue_()
        expect(page.locator("#said")).to_be_visible(timeout=WAIT)
        expect(page.locator("#asking")).to_be_hidden()


def test_the_first_sample_is_shown_at_once(run, browser, server):
    model, sample = from_pretrained(run).eval(), server.demo.samples[0]
    with visited(browser, server) as watched, torch.no_grad():
        shows(watched.page, model({name: x[None] for name, x in sample.inputs.items()}).logits.softmax(1)[0])
        expect(watched.page.locator("#empty")).to_be_hidden()
        expect(watched.page.locator("#rasters canvas").first).to_be_visible(timeout=WAIT)
        assert watched.page.locator("#sample").input_value() == "0"


def test_sounds_can_be_played(run, browser, server):
    seconds = """async () => {
        const audio = document.querySelector("[data-sense=audio] audio");
        audio.preload = "auto";
        audio.load();
        if (audio.readyState < 1)
            await new Promise((done, failed) => { audio.onloadedmetadata = done; audio.onerror = failed; });
        return audio.duration;
    }"""
    with visited(browser, server) as watched:
        page = watched.page
        sound = page.locator("[data-sense=audio] audio")
        expect(sound).to_be_visible()
        assert page.evaluate(seconds) == pytest.approx(0.25, abs=0.02)
        expect(page.locator("[data-sense=image] audio")).to_be_hidden()
        page.get_by_label("Another file for audio").set_input_files(run.parent / "data" / "test3.wav")
        expect(page.locator("[data-sense=audio] .name")).to_have_text("test3.wav", timeout=WAIT)
        expect(sound).to_have_attribute("src", re.compile("^blob:"))
        assert page.evaluate(seconds) == pytest.approx(0.25, abs=0.02)
        drop(page, "a.png", (run.parent / "data" / "test0.png").read_bytes())
        expect(page.locator("[data-sense=audio] .absent")).to_be_visible(timeout=WAIT)
        expect(sound).to_be_hidden()


@pytest.mark.parametrize(("width", "columns"), [(1280, 3), (800, 3), (390, 1)])
def test_three_senses_leave_no_hole(browser, server, width, columns):
    def add_a_third(route: Route) -> None:
        answer = route.fetch()
        told = answer.json()
        told["senses"].append(told["senses"][0] | {"name": "touch"})
        route.fulfill(response=answer, json=told)

    with open_page(browser, width=width) as watched:
        page = watched.page
        page.route("**/api/run", add_a_third)
        page.goto(server.url)
        expect(page.locator("#said")).to_contain_text("It says", timeout=WAIT)
        boxes = [card.bounding_box() for card in page.locator(".sense").all()]
        assert len(boxes) == 3
        assert len({round(box["y"]) for box in boxes}) == (1 if columns == 3 else 3)
        assert len({round(box["width"]) for box in boxes}) == 1
        assert page.evaluate(BEYOND_CARDS) == []
        assert overflow(page) == []


def test_a_demo_that_others_can_reach_asks_for_its_token(run, browser):
    token = "a-token-of-the-tests-0123456789"
    with served(run, token=token) as server, open_page(browser, scheme="dark") as watched:
        page = watched.page
        page.goto(server.url)
        expect(page.locator("h1")).to_have_text("This demo asks for its token")
        assert (
            page.locator("h1").evaluate("each => getComputedStyle(each).fontSize") == "20px"
        )  # the style sheet counts
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("This demo asks for its token")
        page.get_by_label("Token").fill(token)
        page.keyboard.press("Enter")
        expect(page.locator("#said")).to_contain_text("It says", timeout=WAIT)
        assert page.url == server.url
        page.reload()
        expect(page.locator("#said")).to_contain_text("It says", timeout=WAIT)


def test_without_the_server_no_answer_stays_for_another_clip(browser, server):
    with open_page(browser) as watched:
        page = watched.page
        page.goto(server.url)
        page.locator("#sample").fill("0")
        page.keyboard.press("Enter")
        expect(page.locator("#said")).to_contain_text("It says", timeout=WAIT)
        page.route("**/api/**", lambda route: route.abort())
        page.get_by_label("Noise in image").fill("40")
        expect(page.locator("#stuck")).to_contain_text("is `scmrl demo` still running?")
        page.locator("#sample").fill("1")
        page.keyboard.press("Enter")
        expect(page.locator("#fault")).to_contain_text("is `scmrl demo` still running?")
        expect(page.locator("#said")).to_be_hidden()
        page.unroute("**/api/**")
        page.locator("#sample").dispatch_event("change")  # the same sample again
        expect(page.locator("#said")).to_contain_text("It says", timeout=WAIT)
        expect(page.locator(".fault:visible")).to_have_count(0)
        # The browser itself notes the requests that failed.
        assert all("Failed to load resource" in complaint for complaint in watched.complaints)


def test_names_are_never_markup(run, browser, server):
    name = "<img src=x onerror=document.title='owned'>.png"
    with visited(browser, server) as watched:
        page = watched.page
        drop(page, name, (run.parent / "data" / "test0.png").read_bytes())
        expect(page.locator("[data-sense=image] .name")).to_have_text(name, timeout=WAIT)
        assert page.locator("main img").count() == 0
        assert page.title() == "scmrl demo"


def test_what_cannot_be_read_is_told(browser, server):
    with open_page(browser) as watched:
        page = watched.page
        page.goto(server.url)
        page.wait_for_selector("#drop:visible")
        for name, content, told in (
            ("bad.png", b"no picture", "bad.png cannot be read as an image"),
            ("bad.zip", bytes(900_000), "bad.zip is not read here, but files that end so are: image: .png"),
            ("<b>.png", b"", "<b>.png is empty"),
            ("large.png", bytes(1_100_000), "large.png has 1.1 MB; at most 1 MB are taken"),
        ):
            drop(page, name, content)
            expect(page.locator("#fault")).to_contain_text(told, timeout=WAIT)
            expect(page.locator("#doing")).to_be_hidden()
        assert page.locator("#fault b").count() == 0
        expect(page.locator("#said")).to_be_visible()  # of the sample that was looked at before
        # The browser itself notes the answers that refuse.
        assert all("Failed to load resource" in complaint for complaint in watched.complaints)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_it_fits_and_is_labeled(browser, server, width, scheme):
    with visited(browser, server, width=width, scheme=scheme) as watched:
        page = watched.page
        assert overflow(page) == []
        page.locator("#sample").fill("1")
        page.keyboard.press("Enter")
        expect(page.locator("#rasters canvas").first).to_be_visible(timeout=WAIT)
        page.get_by_label("Noise in image").fill("55")
        expect(page.locator("#tick")).to_be_visible(timeout=WAIT)
        assert overflow(page) == []
        assert page.evaluate(BEYOND_CARDS) == []
        assert page.evaluate(UNLABELED) == []
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, re.findall(r"\d+", paper)[:3])) / 3
        assert (brightness < 80) == (scheme == "dark")


def test_long_words_from_files_break(browser, server):
    def lengthen(route: Route) -> None:
        answer = route.fetch()
        longer = {"run": "r" * 90, "classes": ["left", "y" * 90], "notes": ["n" * 200], "no_files": "/data" * 40}
        route.fulfill(response=answer, json=answer.json() | longer)

    with open_page(browser, width=390) as watched:
        page = watched.page
        page.route("**/api/run", lengthen)
        page.goto(server.url)
        page.locator("#sample").fill("1")
        page.keyboard.press("Enter")
        expect(page.locator("#rasters canvas").first).to_be_visible(timeout=WAIT)
        expect(page.locator("#accepted-not")).to_be_visible()
        assert overflow(page) == []


def test_everything_is_reached_by_keyboard(browser, server):
    with visited(browser, server) as watched:
        page = watched.page
        page.locator("#sample").fill("1")
        page.keyboard.press("Enter")
        page.get_by_label("Noise in image").fill("5")
        expect(page.locator("#undo")).to_be_enabled(timeout=WAIT)
        expect(page.locator("main")).to_have_attribute("aria-busy", "false", timeout=WAIT)
        page.evaluate(
            """() => {
                document.activeElement.blur();
                document.addEventListener("focusin", event => { event.target.dataset.reached = ""; });
            }"""
        )
        for _ in range(30):
            page.keyboard.press("Tab")
        assert page.locator("[data-reached]").count() >= 12
        left_out = page.evaluate(
            """() => [...document.querySelectorAll("input, select, button")]
                .filter(each => each.type === "file" || each.checkVisibility())
                .filter(each => !("reached" in each.dataset))
                .map(each => each.outerHTML)"""
        )
        assert left_out == []
