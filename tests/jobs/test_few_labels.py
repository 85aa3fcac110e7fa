"""From corrections to labels: train --from-table on a scored archive, and score --head."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.jobs.jobs_support import scored, speech, tables, write_wav
from zsfuse_ray import Labeller

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LABELS = ["angry", "happy", "sad", "neutral"]
COLUMNS = ("uri", "start_s", "end_s", "emotion", "predicted", "predicted_confidence", "chosen_by")


@pytest.fixture(scope="module")
def archive(run_job, tmp_path_factory) -> Path:
    """A folder with an archive, in/, and its labels by the default models, out/."""
    folder = tmp_path_factory.mktemp("few")
    for n in range(4):
        write_wav(folder / "in" / f"{n}.wav", speech(25, seed=n))
    scored(run_job("score", *arguments(folder)))
    return folder


def arguments(folder: Path) -> list:
    return ["--input", folder / "in", "--output", folder / "out", "--labels", ",".join(LABELS)]


def of(segments: pd.DataFrame) -> dict[tuple[str, float], str]:
    """The label of each segment, by recording and start."""
    keys = zip(segments.recording_uri, segments.start_s, strict=True)
    return dict(zip(keys, segments.label, strict=True))


def corrected(segments: pd.DataFrame, path: Path) -> dict[tuple[str, float], str]:
    """Write corrections of the first recordings as the page does: the next label for every third segment."""
    wanted = {}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in segments.iloc[::3].itertuples():
            label = LABELS[(LABELS.index(row.label) + 1) % len(LABELS)]
            wanted[row.recording_uri, row.start_s] = label
            place = (row.recording_uri, row.start_s, row.end_s)
            writer.writerow([*place, label, row.label, row.confidence, "random"])
    return wanted


def test_corrections_change_the_labels_of_the_archive(archive: Path, run_job, tmp_path: Path) -> None:
    out, head = archive / "out", tmp_path / "my_head"
    before = tables(out)["segments"]
    wanted = corrected(before, tmp_path / "corrections.csv")
    assert len(wanted) > 4
    train = ["--from-table", out, "--train", tmp_path / "corrections.csv", "--output", head]
    shown = scored(run_job("train", "--task", "specialist", *train))
    assert f"a head fitted on {len(wanted)} segments" in shown
    assert sorted(path.name for path in head.iterdir()) == ["README.md", "config.json", "head.safetensors"]
    files = {path: path.stat().st_mtime_ns for path in (out / "encoded").rglob("*") if path.is_file()}
    again = run_job("score", *arguments(archive), "--head", head)
    scored(again)
    assert "is already encoded: labelling without audio" in again.stderr
    assert files == {path: path.stat().st_mtime_ns for path in (out / "encoded").rglob("*") if path.is_file()}
    after = tables(out)["segments"]
    found = of(after)
    assert {place: found[place] for place in wanted} == wanted
    run = json.loads((out / "run.json").read_text())
    assert run["config"]["head"] == str(head)
    assert run["config"]["specialist_temperature"] == 1
    assert run["models"]["specialist"]["head"]["folder"] == str(head)
    assert "nothing to do" in run_job("score", *arguments(archive), "--head", head).stderr

    scored(
        run_job(
            "score",
            "--embeddings",
            out,
            "--output",
            tmp_path / "out",
            *arguments(archive)[4:],
            "--head",
            head,
        )
    )
    elsewhere = tables(tmp_path / "out")["segments"]
    assert of(elsewhere) == found
    for column in (f"p_{label}" for label in LABELS):
        np.testing.assert_allclose(elsewhere[column], after[column], atol=1e-6)

    labeller = Labeller.from_preset("mini", labels=LABELS, head=str(head), specialist_temperature=1.0)
    rows = labeller.label(archive / "in" / "0.wav")
    own = after[after.recording_uri == str(archive / "in" / "0.wav")].sort_values("start_s")
    for column in (f"p_{label}" for label in LABELS):
        np.testing.assert_allclose(rows[column], own[column], atol=2e-3)

    scored(run_job("score", *arguments(archive)))
    assert of(tables(out)["segments"]) == of(before)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt install chromium)")
def test_corrections_made_in_the_page_change_the_labels(archive: Path, run_job, tmp_path: Path) -> None:
    """The page's manifest trains a head with which those segments, and others, get other labels."""
    before = tables(archive / "out")["segments"]
    page = tmp_path / "report.html"
    scored(run_job("report", "--run", archive / "out", "--output", page, "--sample", 8, "--clips", 8))
    wanted = corrected_in_the_page(page, tmp_path / "corrections.csv")
    assert len(wanted) > 4
    train = ["--from-table", archive / "out", "--train", tmp_path / "corrections.csv"]
    scored(run_job("train", *train, "--output", tmp_path / "my_head"))
    scored(run_job("score", *arguments(archive), "--head", tmp_path / "my_head"))
    after = of(tables(archive / "out")["segments"])
    assert {place: after[place] for place in wanted} == wanted
    assert any(after[place] != label for place, label in of(before).items() if place not in wanted)
    scored(run_job("report", "--run", archive / "out", "--output", page))


def corrected_in_the_page(path: Path, manifest: Path) -> dict[tuple[str, float], str]:
    """Give each offered segment the next label with a key, and download; returns the labels by place."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page: Any = browser.new_context(accept_downloads=True).new_page()
        page.goto(path.as_uri())
        page.locator("#card").focus()
        for label in page.evaluate("queue.map((n) => data.check[n].label)"):
            page.keyboard.press(str((LABELS.index(label) + 1) % len(LABELS) + 1))
        with page.expect_download() as download:
            page.get_by_role("button", name="Download the corrections").click()
        download.value.save_as(manifest)
        browser.close()
    with manifest.open(newline="") as file:
        return {(row["uri"], float(row["start_s"])): row["emotion"] for row in csv.DictReader(file)}
