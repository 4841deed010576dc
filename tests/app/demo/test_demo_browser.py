"""The page of `scmrl demo` in a browser, compared with the predictions of the model."""

import base64
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
import torch
from playwright.sync_api import Browser, Page, Request, Route, expect

from app.browser import RecordedPage, open_browser, open_page, overflow
from app.commands.test_predict_command import write_video
from app.serving import RunningServer, serve, tiny_run, warm_up
from present import present
from scmrl.engine.predict import read_file
from scmrl.run_folder.inputs import load_inputs
from snn_datasets import Draw
from snn_datasets.stages.noise import mix_with_noise
from snn_fusion import from_pretrained

pytestmark = pytest.mark.needs("browser")

WAIT = 60_000
"""Timeout in milliseconds for a busy machine."""
DROP = """([name, content]) => {
    const bytes = Uint8Array.from(atob(content), sign => sign.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], name));
    for (const kind of ["dragenter", "dragover", "drop"]) {
        const event = new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
        document.querySelector("#drop").dispatchEvent(event);
    }
}"""
BEYOND_CARDS = """() => [...document.querySelectorAll(".modality *")]
    .filter(each => each.checkVisibility())
    .filter(each => each.getBoundingClientRect().right > each.closest(".modality").getBoundingClientRect().right)
    .map(each => each.outerHTML.slice(0, 120))"""
UNLABELED = """() => [...document.querySelectorAll("input, select, button, canvas")]
    .filter(each => each.checkVisibility() || each.type === "file")
    .filter(each => !(each.labels?.length || each.getAttribute("aria-label") || each.textContent.trim()))
    .map(each => each.outerHTML)"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory)


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[RunningServer]:
    with serve(run, max_upload=1_000_000) as server:
        warm_up(server)
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@contextmanager
def open_demo_page(
    browser: Browser, server: RunningServer, *, width: int = 1280, scheme: Literal["light", "dark"] = "light"
) -> Generator[RecordedPage]:
    """Yield the page with its first prediction; then verify that it sent no foreign requests and logged no errors."""
    with open_page(browser, width=width, scheme=scheme) as recorded:
        recorded.page.set_default_timeout(WAIT)
        recorded.page.goto(server.url)
        recorded.page.wait_for_selector("#samples:visible")
        expect(recorded.page.locator("#prediction")).to_contain_text("Prediction:", timeout=WAIT)
        expect(recorded.page.locator("main")).to_have_attribute("aria-busy", "false", timeout=WAIT)
        yield recorded
        assert not recorded.errors
        assert all(request.removeprefix("blob:").startswith(server.url) for request in recorded.requests)


def drop(page: Page, name: str, content: bytes) -> None:
    page.evaluate(DROP, [name, base64.b64encode(content).decode()])


def expect_prediction(page: Page, probabilities: torch.Tensor) -> None:
    """Wait until the bars show these probabilities, and the headline the predicted class."""
    texts = [f"{100 * share:.1f} %" for share in probabilities.tolist()]
    expect(page.locator("#classes .value")).to_have_text(texts, timeout=WAIT)
    best = ("left", "right")[int(probabilities.argmax())]
    expect(page.locator("#prediction")).to_contain_text(f"Prediction: {best}, {100 * float(probabilities.max()):.1f} %")


def hold(page: Page, path: str) -> list[Route]:
    """Hold requests to this path; the caller continues each of them."""
    held: list[Route] = []

    def hold_route(route: Route) -> None:  # Playwright cannot inspect the signature of a method of list
        held.append(route)

    page.route(path, hold_route)
    return held


def test_a_dropped_clip_is_perturbed(run: Path, browser: Browser, server: RunningServer, tmp_path: Path):
    path = tmp_path / "clip.mp4"
    write_video(path)
    modalities, model = load_inputs(run).modalities, from_pretrained(run).eval()
    inputs = {name: read_file(m, path, Draw(0, "clip", name))[None] for name, m in modalities.items()}

    def predict(**inputs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return model(inputs).logits.softmax(1)[0]

    with open_demo_page(browser, server) as recorded:
        page = recorded.page
        drop(page, "clip.mp4", path.read_bytes())
        plain = predict(**inputs)
        expect_prediction(page, plain)
        expect(page.locator("#rasters canvas").first).to_be_visible()
        expect(page.locator("#contributions .bar")).to_have_count(2)
        assert page.locator(".modality .name").all_text_contents() == ["clip.mp4", "clip.mp4"]
        assert page.locator("#reset").is_disabled()

        page.get_by_label("Mute image").check()
        audio_only = predict(audio=inputs["audio"])
        expect_prediction(page, audio_only)
        expect(page.locator("#contributions .bar")).to_have_count(1)
        page.get_by_label("Mute audio").check()
        expect(page.locator("#predict-fault")).to_contain_text("All modalities are muted")
        page.get_by_label("Mute image").uncheck()
        expect_prediction(page, predict(image=inputs["image"]))
        expect(page.locator("#predict-fault")).to_be_hidden()
        page.get_by_label("Mute audio").uncheck()
        expect_prediction(page, plain)

        predictions = [plain, audio_only]
        for percent in (30, 100):
            page.get_by_label("Noise in audio").fill(str(percent))
            generator = Draw(0, "clip.mp4", "audio", stage="demo").generator()
            noisy = mix_with_noise(inputs["audio"][0], percent / 100, "waveform", generator)[None]
            predictions.append(predict(image=inputs["image"], audio=noisy))
            expect_prediction(page, predictions[-1])
        expect(page.locator("output.noise")).to_have_text(["0 %", "100 %"])
        expect(page.locator("#tick-legend")).to_be_visible()
        page.locator("#reset").click()
        expect_prediction(page, plain)
        expect(page.locator("#tick-legend")).to_be_hidden()
        assert page.get_by_label("Noise in audio").input_value() == "0"
        # All predictions differ.
        assert len({f"{100 * float(probabilities[0]):.1f}" for probabilities in predictions}) == len(predictions)


def test_the_last_of_many_slider_moves_is_shown(run: Path, browser: Browser, server: RunningServer):
    model, sample = from_pretrained(run).eval(), present(server.demo.samples)[2]
    with open_demo_page(browser, server) as recorded:
        page = recorded.page
        page.locator("#sample").fill("2")
        page.keyboard.press("Enter")
        expect(page.locator("#prediction")).to_contain_text(re.compile("correct|wrong"))
        expect(page.locator("main")).to_have_attribute("aria-busy", "false", timeout=WAIT)
        pending, maximum = 0, 0

        def start(request: Request) -> None:
            nonlocal pending, maximum
            pending += request.url.endswith("/api/predictions")
            maximum = max(maximum, pending)

        def finish(request: Request) -> None:
            nonlocal pending
            pending -= request.url.endswith("/api/predictions")

        page.on("request", start)
        page.on("requestfinished", finish)
        slider = page.get_by_label("Noise in image")
        slider.focus()
        for _ in range(40):
            page.keyboard.press("ArrowRight")
        assert slider.input_value() == "40"
        noisy = mix_with_noise(
            sample.inputs["image"], 0.4, "image", Draw(0, sample.id, "image", stage="demo").generator()
        )
        with torch.no_grad():
            expect_prediction(
                page, model({"image": noisy[None], "audio": sample.inputs["audio"][None]}).logits.softmax(1)[0]
            )
        expect(page.locator("main")).to_have_attribute("aria-busy", "false", timeout=WAIT)
        assert maximum == 1


def test_a_random_sample_is_of_the_selected_class(browser: Browser, server: RunningServer):
    with open_demo_page(browser, server) as recorded:
        page = recorded.page
        page.locator("#class").select_option(label="right")
        before = page.locator("#sample").input_value()
        for _ in range(8):
            page.get_by_text("Random sample").click()
            expect(page.locator("#prediction")).to_contain_text(re.compile("right, .* correct|true class right"))
            sample = page.locator("#sample").input_value()
            assert sample in {"1", "3", "5", "7"} - {before}
            before = sample
        page.locator("#sample").fill("77")
        page.keyboard.press("Enter")
        expect(page.locator("#clip-fault")).to_have_text("The test split has samples 0 to 8.")


def test_a_file_replaces_one_modality(run: Path, browser: Browser, server: RunningServer):
    data = run.parent / "data"
    with open_demo_page(browser, server) as recorded:
        page = recorded.page
        drop(page, "a.png", (data / "test0.png").read_bytes())
        expect(page.locator(".modality .absent")).to_have_count(2)
        expect(page.locator("[data-modality=audio] .absent")).to_be_visible(timeout=WAIT)
        assert page.get_by_label("Mute audio").is_disabled()
        page.get_by_label("Another file for audio").set_input_files(data / "test0.wav")
        with torch.no_grad():
            inputs = {name: x[None] for name, x in present(server.demo.samples)[0].inputs.items()}
            expect_prediction(page, from_pretrained(run).eval()(inputs).logits.softmax(1)[0])
        assert page.locator(".modality .name").all_text_contents() == ["a.png", "test0.wav"]


def test_muting_the_only_modality_can_be_reset(run: Path, browser: Browser, server: RunningServer):
    with open_demo_page(browser, server) as recorded:
        page = recorded.page
        drop(page, "a.png", (run.parent / "data" / "test0.png").read_bytes())
        expect(page.locator("[data-modality=audio] .absent")).to_be_visible(timeout=WAIT)
        expect(page.get_by_label("Overlay on image")).to_be_visible()
        for label in ("Overlay on audio", "Time step of audio"):
            expect(page.get_by_label(label)).to_be_hidden()
        page.get_by_label("Mute image").check()
        expect(page.locator("#predict-fault")).to_contain_text("All modalities are muted")
        expect(page.locator("[data-modality=image]")).to_contain_class("off")
        page.locator("#reset").click()
        expect(page.locator("#predict-fault")).to_be_hidden()
        expect(page.locator("[data-modality=image]")).not_to_contain_class("off")


def test_a_file_for_a_muted_modality_is_shown(run: Path, browser: Browser, server: RunningServer):
    canvas = "document.querySelector('[data-modality=image] canvas').toDataURL()"
    with open_demo_page(browser, server) as recorded:
        page = recorded.page
        page.locator("#sample").fill("0")
        page.keyboard.press("Enter")
        expect(page.locator("#rasters canvas").first).to_be_visible()
        page.get_by_label("Mute image").check()
        expect(page.locator("#contributions .bar")).to_have_count(1)
        before = page.evaluate(canvas)
        page.get_by_label("Another file for image").set_input_files(run.parent / "data" / "test1.png")
        expect(page.locator("[data-modality=image] .name")).to_have_text("test1.png", timeout=WAIT)
        assert page.evaluate(canvas) != before


def test_files_chosen_at_the_same_time_are_both_used(run: Path, browser: Browser, server: RunningServer):
    data = run.parent / "data"
    with open_demo_page(browser, server) as recorded:
        page = recorded.page
        page.locator("#sample").fill("0")
        page.keyboard.press("Enter")
        expect(page.locator("#prediction")).to_contain_text("Prediction:")
        page.get_by_label("Another file for image").set_input_files(data / "test1.png")
        page.get_by_label("Another file for audio").set_input_files(data / "test3.wav")
        expect(page.locator(".modality .name")).to_have_text(["test1.png", "test3.wav"], timeout=WAIT)


def test_a_file_for_an_earlier_clip_is_not_used(run: Path, browser: Browser, server: RunningServer):
    with open_demo_page(browser, server) as recorded:
        page = recorded.page
        page.locator("#sample").fill("0")
        page.keyboard.press("Enter")
        expect(page.locator("#prediction")).to_contain_text("Prediction:")
        held = hold(page, "**/api/clips?*")
        page.get_by_label("Another file for image").set_input_files(run.parent / "data" / "test1.png")
        expect(page.locator("#upload-status")).to_have_text("Reading test1.png …")
        page.locator("#sample").fill("5")
        page.keyboard.press("Enter")
        expect(page.locator("[data-modality=image] .name")).to_have_text("test5.png+test5.wav")
        held[0].continue_()
        fault = "The clip changed while the file for image was read; choose the file again."
        expect(page.locator("#clip-fault")).to_have_text(fault, timeout=WAIT)
        expect(page.locator("main")).to_have_attribute("aria-busy", "false", timeout=WAIT)
        expect(page.locator("[data-modality=image] .name")).to_have_text("test5.png+test5.wav")


def test_a_slow_prediction_shows_its_status(browser: Browser, server: RunningServer):
    with open_page(browser) as recorded:
        page = recorded.page
        held = hold(page, "**/api/predictions")
        page.goto(server.url)
        expect(page.locator("#predict-status")).to_have_text("Predicting …", timeout=WAIT)
        expect(page.locator("main")).to_have_attribute("aria-busy", "true")
        expect(page.locator("#empty")).to_be_visible()
        held[0].continue_()
        expect(page.locator("#prediction")).to_be_visible(timeout=WAIT)
        expect(page.locator("#predict-status")).to_be_hidden()


def test_the_first_sample_is_shown_immediately(run: Path, browser: Browser, server: RunningServer):
    model, sample = from_pretrained(run).eval(), present(server.demo.samples)[0]
    with open_demo_page(browser, server) as recorded, torch.no_grad():
        expect_prediction(
            recorded.page, model({name: x[None] for name, x in sample.inputs.items()}).logits.softmax(1)[0]
        )
        expect(recorded.page.locator("#empty")).to_be_hidden()
        expect(recorded.page.locator("#rasters canvas").first).to_be_visible(timeout=WAIT)
        assert recorded.page.locator("#sample").input_value() == "0"


def test_sounds_can_be_played(run: Path, browser: Browser, server: RunningServer):
    seconds = """async () => {
        const audio = document.querySelector("[data-modality=audio] audio");
        audio.preload = "auto";
        audio.load();
        if (audio.readyState < 1)
            await new Promise((done, failed) => { audio.onloadedmetadata = done; audio.onerror = failed; });
        return audio.duration;
    }"""
    with open_demo_page(browser, server) as recorded:
        page = recorded.page
        sound = page.locator("[data-modality=audio] audio")
        expect(sound).to_be_visible()
        assert page.evaluate(seconds) == pytest.approx(0.25, abs=0.02)
        expect(page.locator("[data-modality=image] audio")).to_be_hidden()
        page.get_by_label("Another file for audio").set_input_files(run.parent / "data" / "test3.wav")
        expect(page.locator("[data-modality=audio] .name")).to_have_text("test3.wav", timeout=WAIT)
        expect(sound).to_have_attribute("src", re.compile("^blob:"))
        assert page.evaluate(seconds) == pytest.approx(0.25, abs=0.02)
        drop(page, "a.png", (run.parent / "data" / "test0.png").read_bytes())
        expect(page.locator("[data-modality=audio] .absent")).to_be_visible(timeout=WAIT)
        expect(sound).to_be_hidden()


@pytest.mark.parametrize(("width", "columns"), [(1280, 3), (800, 3), (390, 1)])
def test_three_modalities_leave_no_gap(browser: Browser, server: RunningServer, width: int, columns: int):
    def add_third(route: Route) -> None:
        response = route.fetch()
        content = response.json()
        content["modalities"].append(content["modalities"][0] | {"name": "touch"})
        route.fulfill(response=response, json=content)

    with open_page(browser, width=width) as recorded:
        page = recorded.page
        page.route("**/api/run", add_third)
        page.goto(server.url)
        expect(page.locator("#prediction")).to_contain_text("Prediction:", timeout=WAIT)
        boxes = [present(card.bounding_box()) for card in page.locator(".modality").all()]
        assert len(boxes) == 3
        assert len({round(box["y"]) for box in boxes}) == (1 if columns == 3 else 3)
        assert len({round(box["width"]) for box in boxes}) == 1
        assert page.evaluate(BEYOND_CARDS) == []
        assert overflow(page) == []


def test_a_demo_that_others_can_reach_needs_its_token(run: Path, browser: Browser):
    token = "a-token-of-the-tests-0123456789"
    with serve(run, token=token) as server, open_page(browser, scheme="dark") as recorded:
        page = recorded.page
        page.goto(server.url)
        expect(page.locator("h1")).to_have_text("This demo needs a token")
        assert (
            page.locator("h1").evaluate("each => getComputedStyle(each).fontSize") == "20px"
        )  # the style sheet is applied
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("This demo needs a token")
        page.get_by_label("Token").fill(token)
        page.keyboard.press("Enter")
        expect(page.locator("#prediction")).to_contain_text("Prediction:", timeout=WAIT)
        assert page.url == server.url
        page.reload()
        expect(page.locator("#prediction")).to_contain_text("Prediction:", timeout=WAIT)


def test_without_the_server_no_prediction_remains_for_another_clip(browser: Browser, server: RunningServer):
    with open_page(browser) as recorded:
        page = recorded.page
        page.goto(server.url)
        page.locator("#sample").fill("0")
        page.keyboard.press("Enter")
        expect(page.locator("#prediction")).to_contain_text("Prediction:", timeout=WAIT)
        page.route("**/api/**", lambda route: route.abort())
        page.get_by_label("Noise in image").fill("40")
        expect(page.locator("#predict-fault")).to_contain_text("is `scmrl demo` still running?")
        page.locator("#sample").fill("1")
        page.keyboard.press("Enter")
        expect(page.locator("#clip-fault")).to_contain_text("is `scmrl demo` still running?")
        expect(page.locator("#prediction")).to_be_hidden()
        page.unroute("**/api/**")
        page.locator("#sample").dispatch_event("change")  # the same sample again
        expect(page.locator("#prediction")).to_contain_text("Prediction:", timeout=WAIT)
        expect(page.locator(".fault:visible")).to_have_count(0)
        # The browser logs failed requests.
        assert all("Failed to load resource" in error for error in recorded.errors)


def test_names_are_never_markup(run: Path, browser: Browser, server: RunningServer):
    name = "<img src=x onerror=document.title='owned'>.png"
    with open_demo_page(browser, server) as recorded:
        page = recorded.page
        drop(page, name, (run.parent / "data" / "test0.png").read_bytes())
        expect(page.locator("[data-modality=image] .name")).to_have_text(name, timeout=WAIT)
        assert page.locator("main img").count() == 0
        assert page.title() == "scmrl demo"


def test_unreadable_files_are_reported(browser: Browser, server: RunningServer):
    with open_page(browser) as recorded:
        page = recorded.page
        page.goto(server.url)
        page.wait_for_selector("#drop:visible")
        for name, content, fault in (
            ("bad.png", b"no picture", "bad.png cannot be read as an image"),
            ("bad.zip", bytes(900_000), "bad.zip is not supported; supported files: image: .png"),
            ("<b>.png", b"", "<b>.png is empty"),
            ("large.png", bytes(1_100_000), "large.png has 1.1 MB; the limit is 1 MB"),
        ):
            drop(page, name, content)
            expect(page.locator("#clip-fault")).to_contain_text(fault, timeout=WAIT)
            expect(page.locator("#upload-status")).to_be_hidden()
        assert page.locator("#fault b").count() == 0
        expect(page.locator("#prediction")).to_be_visible()  # of the previous sample
        # The browser logs error responses.
        assert all("Failed to load resource" in error for error in recorded.errors)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_the_page_fits_and_its_controls_are_labeled(
    browser: Browser, server: RunningServer, width: int, scheme: Literal["light", "dark"]
):
    with open_demo_page(browser, server, width=width, scheme=scheme) as recorded:
        page = recorded.page
        assert overflow(page) == []
        page.locator("#sample").fill("1")
        page.keyboard.press("Enter")
        expect(page.locator("#rasters canvas").first).to_be_visible(timeout=WAIT)
        page.get_by_label("Noise in image").fill("55")
        expect(page.locator("#tick-legend")).to_be_visible(timeout=WAIT)
        assert overflow(page) == []
        assert page.evaluate(BEYOND_CARDS) == []
        assert page.evaluate(UNLABELED) == []
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
        assert (brightness < 80) == (scheme == "dark")


def test_long_names_from_files_wrap(browser: Browser, server: RunningServer):
    def lengthen(route: Route) -> None:
        response = route.fetch()
        longer = {"run": "r" * 90, "classes": ["left", "y" * 90], "notes": ["n" * 200], "no_files": "/data" * 40}
        route.fulfill(response=response, json=response.json() | longer)

    with open_page(browser, width=390) as recorded:
        page = recorded.page
        page.route("**/api/run", lengthen)
        page.goto(server.url)
        page.locator("#sample").fill("1")
        page.keyboard.press("Enter")
        expect(page.locator("#rasters canvas").first).to_be_visible(timeout=WAIT)
        expect(page.locator("#no-files")).to_be_visible()
        assert overflow(page) == []


def test_all_controls_are_reachable_by_keyboard(browser: Browser, server: RunningServer):
    with open_demo_page(browser, server) as recorded:
        page = recorded.page
        page.locator("#sample").fill("1")
        page.keyboard.press("Enter")
        page.get_by_label("Noise in image").fill("5")
        expect(page.locator("#reset")).to_be_enabled(timeout=WAIT)
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
        unreachable = page.evaluate(
            """() => [...document.querySelectorAll("input, select, button")]
                .filter(each => each.type === "file" || each.checkVisibility())
                .filter(each => !("reached" in each.dataset))
                .map(each => each.outerHTML)"""
        )
        assert unreachable == []
