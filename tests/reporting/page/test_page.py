"""The page as a file: its data, sizes and escaping."""

import base64
import hashlib
import io
import json
import re
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from tests.reporting.page.runs import LABELS, write_audio, write_run
from zsfuse_ray.config.options import build
from zsfuse_ray.config.report import ReportConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.reporting.cells import percent
from zsfuse_ray.reporting.page import content
from zsfuse_ray.reporting.page.clips import RATE, mp3
from zsfuse_ray.reporting.page.content import link
from zsfuse_ray.reporting.page.write import report
from zsfuse_ray.runs.folder import Output

NAMES = (
    "b/plain.wav",
    "c/<script>alert(1)<script>.wav",
    "c/quo\"te's & Ü.wav",
    "c/new\nline.wav",
    "c/gone.wav",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    uris = {}
    for n, name in enumerate(NAMES):
        path = folder / "audio" / name
        if "gone" not in name:
            write_audio(path, 30)
        uris[str(path)] = n + 1
    return write_run(folder, uris)


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    told = report(build(ReportConfig, {"run": str(run), "sample": 100}))
    assert "without audio: 5" in told
    return (run / "report.html").read_text()


def data_of(html: str) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    return json.loads(text)


def test_data_are_those_of_the_tables(run: Path, html: str) -> None:
    data, table = data_of(html), pd.read_parquet(run / "segments")
    assert data["labels"] == list(LABELS)
    assert sum(data["histogram"]) == len(table)
    names = {one["name"]: one for one in data["recordings"]}
    assert set(names) == set(NAMES)
    table = table.sort_values(["recording_uri", "start_s"])
    assert [one["uri"] for one in data["recordings"]] == table["recording_uri"].unique().tolist()
    assert [one["segments"] for one in data["recordings"]] == table.groupby("recording_uri").size().tolist()
    for name, kind in (("start", "<f4"), ("end", "<f4"), ("confidence", "u1")):
        found = np.frombuffer(base64.b64decode(data[name]), kind).astype(float)
        column = f"{name}_s" if kind == "<f4" else name
        scale = 1 if kind == "<f4" else 255
        np.testing.assert_allclose(found, scale * table[column], atol=0.51 if scale == 255 else 1e-3)
    posterior = np.frombuffer(base64.b64decode(data["posterior"]), np.uint8).reshape(-1, 3)
    expected = 255 * table[[f"p_{label}" for label in LABELS]].to_numpy()
    np.testing.assert_allclose(posterior, expected, atol=0.51)
    label = np.frombuffer(base64.b64decode(data["label"]), np.uint8)
    assert [LABELS[n] for n in label] == table["label"].tolist()


def test_segments_to_check_have_their_audio(html: str) -> None:
    checks = data_of(html)["check"]
    assert len(checks) == 15  # all: the sample is larger
    for one in checks:
        if "gone" in one["name"]:
            assert one["clip"] is None
            continue
        content_of = base64.b64decode(one["clip"].removeprefix("data:audio/mpeg;base64,"))

        with av.open(io.BytesIO(content_of)) as file:
            samples = sum(frame.samples for frame in file.decode(audio=0))
        assert samples / RATE == pytest.approx(one["end"] - one["start"], abs=0.15)  # an encoder's padding
        assert set(one["models"]) == {"specialist", "alm"}


def test_nothing_of_a_name_is_markup(html: str) -> None:
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert "<b>no</b>" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html


def test_only_the_pages_own_script_may_run(html: str) -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy.startswith("default-src 'none';")
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy


@pytest.mark.parametrize(
    ("uri", "folder", "expected"),
    [
        ("/a/b/ü #1.wav", "/a/out", "../b/%C3%BC%20%231.wav"),
        ("/a/javascript:x", "/a", "javascript%3Ax"),
        ("/a/b.wav", None, "file:///a/b.wav"),
        ("https://x.org/a.mp3", "/a", "https://x.org/a.mp3"),
        ("s3://bucket/a.mp3", "/a", None),
    ],
)
def test_links(uri: str, folder: str | None, expected: str | None) -> None:
    assert link(uri, folder) == expected


def test_a_large_archive_is_shown_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "MOST_RECORDINGS", 20)
    monkeypatch.setattr(content, "MOST_SEGMENTS", 50)
    run = write_run(tmp_path, {f"s3://b/{n:03}.wav": 4 for n in range(100)})
    report(build(ReportConfig, {"run": str(run), "clips": 0}))
    html = (run / "report.html").read_text()
    data = data_of(html)
    assert len(data["recordings"]) == 12
    assert "A random part of the archive: 12 of 100 recordings." in html
    assert sum(data["histogram"]) == 400
    assert len(base64.b64decode(data["label"])) == 48


def test_an_mp3_keeps_the_sound() -> None:
    time = np.arange(16000) / 16000
    samples = (20000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16)

    with av.open(io.BytesIO(mp3(samples, 16000))) as file:
        found = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
    spectrum = np.abs(np.fft.rfft(found[RATE // 4 : RATE // 2 + RATE // 4]))
    assert spectrum.argmax() * 2 == pytest.approx(440, abs=3)


def test_an_evaluation_and_a_tuning_are_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"s3://b/a.wav": 1})
    ua = {"value": 0.5, "low": 0.25, "high": 0.75}
    table = {"systems": {"alm": {"name": "the <ALM>", "ua": ua}}, "verdict": "Fusion has no gain."}
    versions = {"versions": {"zsfuse_ray": "1"}, "seen_in_training": {"emodb": "clap:x: trained on emodb"}}
    out = Output.open(str(tmp_path / "evaluated"))
    out.write_json("evaluation.json", versions | {"corpora": {"emodb": table}})
    out.write_bytes("figures/emodb_weight.png", b"picture")
    out.write_bytes("figures/emodb_weight.svg", b"<svg/>")
    tuned = {"systems": table["systems"], "tuned": {"verdict": "w = 0."}}
    Output.open(str(tmp_path / "tuned")).write_json("tune.json", versions | tuned)
    options = {"evaluation": str(tmp_path / "evaluated"), "tuning": str(tmp_path / "tuned")}
    report(build(ReportConfig, {"run": str(run), **options}))
    html = (run / "report.html").read_text()
    assert "the &lt;ALM&gt;" in html
    assert html.count(percent(ua)) == 2
    for text in ("emodb: Fusion has no gain.", "w = 0.", "clap:x: trained on emodb"):
        assert f"<p>{text}</p>" in html
    picture = base64.b64encode(b"picture").decode()
    assert f'<img src="data:image/png;base64,{picture}" alt="emodb weight"' in html
    for option in options:
        with pytest.raises(InputError, match=f"--{option} .*: no .*json there"):
            report(build(ReportConfig, {"run": str(run), option: str(tmp_path)}))


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no labels there"):
        report(build(ReportConfig, {"run": str(tmp_path)}))
    run = write_run(tmp_path, {"s3://b/a.wav": 1})
    with pytest.raises(InputError, match="name an HTML file"):
        report(build(ReportConfig, {"run": str(run), "output": str(tmp_path / "page")}))
