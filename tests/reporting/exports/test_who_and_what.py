"""Speakers, channels and texts in the exports and on the page."""

from io import StringIO
from pathlib import Path

import pympi
import pytest
import srt
import webvtt

from zsfuse_ray.reporting.exports import audacity, captions, elan, label_studio, rttm, textgrid
from zsfuse_ray.reporting.exports.labelled import Recording, Segment
from zsfuse_ray.reporting.page.content import said

SAID = 'Well --> "no" <b>&amp;\nyes'
RECORDING = Recording(
    "/a/call.wav",
    9.0,
    (Segment(0.5, 2.0, "happy", 0.75, 0, "ann", SAID), Segment(2.5, 4.0, "sad", 0.5, 1, None, None)),
)
PLAIN = Recording("/a/call.wav", 9.0, (Segment(0.5, 2.0, "happy", 0.75),))


def test_captions_have_the_text_below_the_label() -> None:
    one, two = srt.parse(captions.subrip(RECORDING))
    assert one.content.split("\n") == ["happy 0.75", 'Well -> "no" <b>&amp; yes']
    assert two.content == "sad 0.50"
    first, _ = webvtt.from_buffer(StringIO(captions.webvtt(RECORDING))).captions
    assert first.raw_text.split("\n")[1] == 'Well -&gt; "no" &lt;b&gt;&amp;amp; yes'


def test_tiers_of_speakers_and_texts_only_where_there_are_any(tmp_path: Path) -> None:
    for recording, tiers in (
        (RECORDING, {"emotion", "confidence", "speaker", "text"}),
        (PLAIN, {"emotion", "confidence"}),
    ):
        (tmp_path / "a.eaf").write_text(elan.text(recording))
        document = pympi.Eaf(str(tmp_path / "a.eaf"))
        assert set(document.get_tier_names()) == tiers
        grid = textgrid.text(recording)
        assert {name for name in ("speaker", "text") if f'name = "{name}"' in grid} == tiers - {
            "emotion",
            "confidence",
        }
    said_in_grid = SAID.replace('"', '""')
    assert f'text = "{said_in_grid}"' in textgrid.text(RECORDING)


def test_channels_in_rttm_and_label_studio() -> None:
    assert [line.split()[2] for line in rttm.text(RECORDING).splitlines()] == ["1", "2"]
    result = label_studio._task(RECORDING, "x")["predictions"][0]["result"]
    assert [one["value"]["channel"] for one in result] == [0, 1]
    assert len(audacity.text(RECORDING).splitlines()) == 2


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, ""),
        ({"text": "hi"}, "hi"),
        ({"speaker": "ann", "text": "hi"}, "speaker ann: hi"),
        ({"channel": 1, "text": None}, "channel 1"),
        ({"channel": 0, "speaker": float("nan"), "text": ""}, "channel 0"),
        ({"text": "x" * 1000}, "x" * 300),
    ],
)
def test_the_page_says_who_says_what(row: dict, expected: str) -> None:
    assert said(row) == expected
