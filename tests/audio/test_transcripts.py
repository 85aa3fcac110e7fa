"""Transcripts in each format, and the words said in each segment."""

import json
from pathlib import Path

import pytest

from zsfuse_ray.audio.transcripts import Word, read_words, texts_of
from zsfuse_ray.errors import InputError

SRT = (
    "\ufeff1\r\n00:00:01,000 --> 00:00:03,000\r\n<i>ab</i> cd\r\nef gh\r\n\r\n"
    "2\r\n01:00:00,5 --> 01:00:01,5\r\nx &amp; y\r\n"
)
VTT = """WEBVTT
Kind: captions

NOTE not a cue

intro
00:01.000 --> 00:03.000 align:start
<v Ann>ab <00:02.000>cd
ef gh

01:00:00.500 --> 01:00:01.500
x &amp; y
"""


def words_of(tmp_path: Path, content: str, suffix: str) -> list[Word]:
    path = tmp_path / f"a.{suffix}"
    path.write_text(content)
    return read_words(str(path))


@pytest.mark.parametrize(("content", "suffix"), [(SRT, "srt"), (VTT, "vtt")])
def test_words_of_captions_are_spread_over_their_cue(tmp_path: Path, content: str, suffix: str) -> None:
    words = words_of(tmp_path, content, suffix)
    assert "".join(word.text for word in words) == "ab cd ef gh x & y "
    first = words[:4]
    assert [first[0].start_s, first[-1].end_s] == [1.0, 3.0]
    assert [word.end_s - word.start_s for word in first] == pytest.approx([0.5] * 4)
    assert [words[4].start_s, words[-1].end_s] == [3600.5, 3601.5]


def test_words_of_whisper_and_whisperx(tmp_path: Path) -> None:
    whisper = [{"word": " I", "start": 0.0, "end": 0.2}, {"word": " don't", "start": 0.2, "end": 0.6},
               {"word": " know.", "start": 0.6, "end": 1.0}]  # fmt: skip
    whisperx = [{"word": "I", "start": 0.0, "end": 0.2}, {"word": "paid", "start": 0.3, "end": 0.5},
                {"word": "20", "score": 0.1}, {"word": "pounds.", "start": 0.9, "end": 1.0}]  # fmt: skip
    japanese = [{"word": c, "start": n / 2, "end": n / 2 + 0.5} for n, c in enumerate("今日は")]
    cases = [
        (whisper, " I don't know.", ["I ", "don't ", "know. "]),
        (whisperx, "I paid 20 pounds.", ["I ", "paid 20 ", "pounds. "]),
        (japanese, "今日は", ["今", "日", "は "]),
        (None, " I paid", ["I ", "paid "]),
    ]
    for words, text, expected in cases:
        cue = {"start": 0.0, "end": 1.0, "text": text} | ({"words": words} if words else {})
        found = words_of(tmp_path, json.dumps({"text": text, "segments": [cue], "language": "x"}), "json")
        assert [word.text for word in found] == expected
        if words:
            assert found[0] == Word(words[0]["start"], words[0]["end"], expected[0])


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        ("{", "json"),
        ("[]", "json"),
        ('{"segments": [{"start": 0}]}', "json"),
        ('{"segments": [{"start": "x", "end": 1, "text": "a"}]}', "json"),
        ("[" * 100_000, "json"),
        ("no times here", "srt"),
    ],
)
def test_a_file_that_is_no_transcript(tmp_path: Path, content: str, suffix: str) -> None:
    with pytest.raises(InputError, match=r"--transcripts .*a\.\w+: not the JSON"):
        words_of(tmp_path, content, suffix)


def test_an_empty_transcript_and_times_that_are_not_numbers(tmp_path: Path) -> None:
    assert words_of(tmp_path, "", "srt") == words_of(tmp_path, "WEBVTT\n", "vtt") == []
    cue = '{"segments": [{"start": NaN, "end": 1, "text": "a b"}, {"start": 0, "end": 1, "text": "c"}]}'
    assert [word.text for word in words_of(tmp_path, cue, "json")] == ["c "]


def test_each_word_is_said_in_one_segment() -> None:
    words = [Word(t, t + 0.2, f"w{n} ") for n, t in enumerate([0.0, 1.0, 2.5, 2.9, 3.9, 9.0])]
    starts, ends = [0.5, 3.0, 4.0], [2.0, 4.0, 5.0]
    # w0 and w2 are beside a segment, w3 and w4 cross its edge, w5 is far from all
    assert texts_of(words, starts, ends) == ["w0 w1", "w2 w3", "w4"]
    assert texts_of(words, [], []) == []
    assert texts_of([], starts, ends) == ["", "", ""]
