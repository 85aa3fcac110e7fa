"""The page in headless Chromium: look, search, sort, play, pick, download."""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.page.runs import write_audio, write_run
from zsfuse_ray.archive.listing import list_archive
from zsfuse_ray.config.options import build
from zsfuse_ray.config.report import ReportConfig
from zsfuse_ray.reporting.page.write import report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt install chromium)")
NAMES = {"b/one.wav": 5, "b/two.wav": 3, "c/<b>'odd\" &\n.wav": 4}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield one
        one.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    for name, n in NAMES.items():
        write_audio(folder / "audio" / name, 6 * n)
    write_run(folder, {str(folder / "audio" / name): n for name, n in NAMES.items()})
    report(build(ReportConfig, {"run": str(folder), "sample": 8, "hardest": 3, "clips": 6}))
    return folder


@pytest.fixture
def page(browser: Any, run: Path) -> Iterator[Any]:
    context = browser.new_context(accept_downloads=True)
    one = context.new_page()
    errors: list[str] = []
    one.on("pageerror", lambda error: errors.append(str(error)))
    one.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    one.on("dialog", lambda dialog: errors.append(f"dialog {dialog.message}"))
    one.goto((run / "report.html").as_uri())
    yield one
    context.close()
    assert not errors


def names(page: Any) -> list[str]:
    return page.locator("#table tbody button.name").all_inner_texts()


def playing(page: Any, after_s: float = 0.05) -> bool:
    """Whether the player gets past this place within ten seconds."""
    for _ in range(100):
        if page.evaluate("document.querySelector('audio').currentTime") > after_s:
            return True
        page.wait_for_timeout(100)
    return False


def test_search_and_sort(page: Any) -> None:
    assert len(names(page)) == 3
    page.get_by_role("button", name="segments").click()
    assert names(page)[0] == "b/two.wav"
    page.get_by_role("button", name="segments").click()
    assert names(page)[0] == "b/one.wav"
    assert page.locator("th[aria-sort=descending]").count() == 1
    page.get_by_label("Search").fill("ODD")
    assert [" ".join(name.split()) for name in names(page)] == ["c/<b>'odd\" & .wav"]
    assert page.locator("#found").inner_text() == "1 of 3"


def test_a_recording_opens_with_its_arc_and_plays_from_its_file(page: Any) -> None:
    page.get_by_role("button", name="b/one.wav").click()
    assert page.locator("#recording svg rect.hit").count() == 5
    page.get_by_role("button", name="Smoothed").click()
    assert page.get_by_role("button", name="Smoothed").get_attribute("aria-pressed") == "true"
    heights = page.locator("#recording svg rect:not(.hit)").evaluate_all(
        "rects => rects.map(r => Number(r.getAttribute('height')))"
    )
    assert len(heights) == 15
    assert sum(heights) == pytest.approx(500, abs=10)  # shares of each segment add up
    page.locator("#recording .segments button").nth(1).click()
    assert playing(page, 6)
    assert "one.wav#t=6.00,11.00" in page.locator("audio").get_attribute("src")


def test_a_recording_with_an_odd_name_plays(page: Any) -> None:
    page.get_by_label("Search").fill("odd")
    page.locator("#table tbody button.name").click()
    page.locator("#recording .segments button").first.click()
    assert playing(page)


def test_pick_with_the_keyboard_and_download(page: Any, run: Path, tmp_path: Path) -> None:
    page.locator("#card").focus()
    page.keyboard.press("Space")
    assert playing(page)
    assert page.locator("audio").get_attribute("src").startswith("data:audio/mpeg")
    page.keyboard.press("1")
    page.keyboard.press("3")
    page.keyboard.press("4")  # cannot tell
    assert page.locator("#card h3").inner_text().startswith("4 of 8")
    assert page.locator("#estimate").inner_text().startswith("3 checked. Random sample: ")
    assert " of 2 right" in page.locator("#estimate").inner_text()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the corrections").click()
    path = tmp_path / "corrections.csv"
    download.value.save_as(path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["emotion"] for row in rows] == ["happy", "calm"]
    assert {row["chosen_by"] for row in rows} == {"random"}
    assert {row["uri"] for row in rows} <= {str(run / "audio" / name) for name in NAMES}
    assert len(list_archive(str(path))) == 2  # a manifest
    page.reload()
    assert page.locator("#estimate").inner_text().startswith("3 checked.")  # kept


def test_the_accuracys_interval_is_wilsons(page: Any) -> None:
    low, high = page.evaluate("wilson(40, 50)")
    assert (low, high) == (pytest.approx(0.6696, abs=1e-4), pytest.approx(0.8876, abs=1e-4))


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_text_has_contrast_and_fits(browser: Any, run: Path, theme: str, width: int) -> None:
    one = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=theme)
    one.goto((run / "report.html").as_uri())
    one.locator("#table tbody button.name").first.click()
    assert one.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = one.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in colour[4:-1].split(",")]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((luminance(ink), luminance(paper)), reverse=True)
    assert (bright + 0.05) / (dim + 0.05) > 7
    assert (luminance(paper) < 0.2) == (theme == "dark")
    one.close()
