"""RTTM, and regions of speech cut where the speaker changes."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from zsfuse_ray.audio import sidecars
from zsfuse_ray.audio.rttm import parse_rttm, read_turns
from zsfuse_ray.audio.segment import RATE, Segmentation, segments_from_probabilities
from zsfuse_ray.audio.sidecars import list_sidecars, match_names, read_sidecar
from zsfuse_ray.audio.turns import Turn, cut_at_turns, shared
from zsfuse_ray.errors import InputError

RTTM = """;; a comment
SPKR-INFO call 1 <NA> <NA> <NA> unknown ann <NA> <NA>
SPEAKER call 1 5.00 2.50 <NA> <NA> bob <NA> <NA>
SPEAKER call 1 0.25 4.75 <NA> <NA> ann <NA>
SPEAKER other 1 1 1 <NA> <NA> x <NA> <NA>
SPEAKER call 1 9.00 0.00 <NA> <NA> bob <NA> <NA>
"""


def line(name: str, start: float, length: float, who: str) -> str:
    return f"SPEAKER {name} 1 {start} {length} <NA> <NA> {who} <NA> <NA>\n"


def spans(pieces: list) -> list[tuple]:
    return [(round(p.start_s, 3), round(p.end_s, 3), p.speaker) for p in pieces]


def test_turns_of_each_recording_by_start() -> None:
    assert parse_rttm(RTTM, "a.rttm") == {
        "call": [Turn(0.25, 5.0, "ann"), Turn(5.0, 7.5, "bob")],
        "other": [Turn(1.0, 2.0, "x")],
    }


@pytest.mark.parametrize("times", ["x 1", "1 -1", "1", "nan 1", "0 inf", "1e400 1"])
def test_a_line_that_is_not_rttm_is_named(times: str) -> None:
    with pytest.raises(InputError, match=r"--speakers a\.rttm: line 2 is not RTTM: SPEAKER a"):
        parse_rttm(f"\nSPEAKER a 1 {times} <NA> <NA> b\n", "a.rttm")


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([], [(0, 10, None)]),
        ([Turn(0, 4, "a"), Turn(4, 10, "b")], [(0, 4, "a"), (4, 10, "b")]),
        # in an overlap the one who began first keeps the floor, also at its end
        ([Turn(0, 6, "a"), Turn(4, 10, "b")], [(0, 6, "a"), (6, 10, "b")]),
        ([Turn(0, 10, "a"), Turn(4, 6, "b")], [(0, 10, "a")]),
        # a short turn of another joins the speech around it, an own longer one does not
        ([Turn(0, 5, "a"), Turn(5, 5.3, "b"), Turn(5.3, 10, "a")], [(0, 10, "a")]),
        ([Turn(0, 5, "a"), Turn(5, 6, "b"), Turn(6, 10, "a")], [(0, 5, "a"), (5, 6, "b"), (6, 10, "a")]),
        # nobody's speech: its short edges join the turn beside them, a long stretch is nobody's
        ([Turn(0.2, 5, "a"), Turn(5.1, 9.8, "b")], [(0, 5.1, "a"), (5.1, 10, "b")]),
        ([Turn(0, 5, "a")], [(0, 5, "a"), (5, 10, None)]),
        ([Turn(20, 30, "a")], [(0, 10, None)]),
        # one piece is left of a region too short for two
        (
            [Turn(0, 3, "a"), Turn(3, 3.2, "b"), Turn(3.2, 3.4, "c"), Turn(3.4, 10, "d")],
            [(0, 3, "a"), (3, 10, "d")],
        ),
    ],
)
def test_a_region_is_cut_where_the_speaker_changes(turns: list[Turn], expected: list[tuple]) -> None:
    assert spans(cut_at_turns(0.0, 10.0, turns, 0.5)) == expected


def test_pieces_tile_any_region_and_are_long_enough() -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        start, length = random.uniform(0, 5), random.uniform(0.5, 12)
        turns = sorted(
            Turn(t := float(random.uniform(-2, 15)), t + float(random.uniform(0.05, 4)), who)
            for who in random.choice(list("abc"), random.integers(0, 9))
        )
        pieces = cut_at_turns(start, start + length, turns, 0.5)
        edges = [start, *(piece.end_s for piece in pieces)]
        assert [piece.start_s for piece in pieces] == edges[:-1]
        assert edges[-1] == start + length
        assert all(piece.end_s - piece.start_s >= 0.5 for piece in pieces)
        assert all(a.speaker != b.speaker for a, b in pairwise(pieces))


def test_shared_time_matches_a_fine_grid() -> None:
    random = np.random.default_rng(1)
    grid = np.arange(2.0, 9.0, 0.001) + 0.0005
    for _ in range(50):
        turns = [
            Turn(t := float(random.uniform(0, 9)), t + float(random.uniform(0.05, 4)), who)
            for who in random.choice(list("abc"), 5)
        ]
        others = [turn for turn in turns if turn.speaker != "a"]
        spoken = np.zeros(len(grid), bool)
        for turn in others:
            spoken |= (grid >= turn.start_s) & (grid < turn.end_s)
        assert shared(2.0, 9.0, "a", turns) == pytest.approx(spoken.mean(), abs=2e-3)


def test_long_turns_are_cut_to_segments() -> None:
    """Cuts at turns come first: every segment has one speaker and an allowed length."""
    speech = np.full(round(60 * RATE / 512), 0.9, np.float32)
    how = Segmentation(max_segment_s=8.0)
    turns = [Turn(0, 25, "a"), Turn(24, 60, "b")]
    found = segments_from_probabilities(speech, 60.0, how, turns)
    assert [s.speaker for s in found] == sorted(s.speaker or "" for s in found)
    assert any(s.end_s == 25.0 for s in found)
    assert all(how.min_segment_s <= s.end_s - s.start_s <= 8.0 for s in found)
    (cut,) = (s for s in found if s.end_s == 25.0)
    assert cut.overlap == pytest.approx(1 / (cut.end_s - cut.start_s))
    plain = segments_from_probabilities(speech, 60.0, how)
    assert {(s.speaker, s.overlap) for s in plain} == {(None, None)}


def test_files_are_matched_by_name_and_folder() -> None:
    uris = ["s3://b/x/one.wav", "s3://b/y/one.wav", "s3://b/y/two.tar.mp3", "/z/three.wav", "/z/four.wav"]
    names = ["x/one", "y/one", "two.tar", "three.wav", "deep/four", "five"]
    found = match_names(uris, names, "--speakers")
    assert found == dict(zip(uris, names, strict=False))
    with pytest.raises(InputError, match="one could be of s3://b/x/one or s3://b/y/one"):
        match_names(uris, ["one"], "--speakers")
    assert match_names(["/a/x.wav", "/a/x.wav", "/a/x.mp3"], ["x"], "") == {"/a/x.wav": "x", "/a/x.mp3": "x"}


def test_turns_from_a_file_and_from_a_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "r/b").mkdir(parents=True)
    (tmp_path / "r/a.rttm").write_text(line("whatever", 1, 2, "ann"))
    (tmp_path / "r/b/c.rttm").write_text(line("c", 3, 1, "bob"))
    (tmp_path / "all.rttm").write_text(line("a", 1, 2, "ann") + line("b/c", 3, 1, "bob"))
    uris = ["/in/a.wav", "/in/b/c.wav", "/in/d.wav"]
    expected = [
        [{"start_s": 1.0, "end_s": 3.0, "speaker": "ann"}],
        [{"start_s": 3.0, "end_s": 4.0, "speaker": "bob"}],
        None,
    ]
    for place in ("r", "r/", "all.rttm"):
        assert read_turns(str(tmp_path / place), uris).to_pylist() == expected
    assert "1 of 3 recordings have no turns" in caplog.text
    with pytest.raises(InputError, match=r"no recording has one of its names \(a, b/c"):
        read_turns(str(tmp_path / "all.rttm"), ["/in/x.wav"])
    with pytest.raises(InputError, match=r"--x .*: no file in it ends in \.json"):
        list_sidecars(str(tmp_path / "r"), (".json",), "--x")


def test_a_file_that_is_too_large_or_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.rttm").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        read_sidecar(str(tmp_path / "a.rttm"), "--speakers")
    monkeypatch.setattr(sidecars, "MOST_BYTES", 2)
    with pytest.raises(InputError, match="larger than"):
        read_sidecar(str(tmp_path / "a.rttm"), "--speakers")
    with pytest.raises(InputError, match="--speakers"):
        read_sidecar(str(tmp_path / "b.rttm"), "--speakers")
