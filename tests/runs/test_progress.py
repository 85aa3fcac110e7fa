import pytest

from zsfuse_ray.runs.progress import BAR, duration, progress_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (41.6, "42 s"),
        (89, "89 s"),
        (90, "2 min"),
        (170, "3 min"),
        (59 * 60, "59 min"),
        (59.6 * 60, "1 h 0 min"),
        (80 * 60, "1 h 20 min"),
        (47 * 3600 + 59 * 60, "47 h 59 min"),
        (52 * 3600, "2 d 4 h"),
        (400 * 86400, "400 d 0 h"),
    ],
)
def test_durations_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_line_of_a_log() -> None:
    counts = {"planned_s": 1800.0, "audio_s": 900.0, "segments": 12345, "rejects": 2}
    assert progress_text(counts, 36_000.0, 9000.0, 90.0, bar=False) == (
        " 30%  3.00 of 10.00 h  10× real time  21 min left  12,345 segments  2 rejects"
    )


def test_the_bar_fills() -> None:
    drawn = []
    for done in (0.0, 50.0, 100.0, 130.0):
        counts = {"planned_s": done, "audio_s": done, "segments": 0, "rejects": 0}
        text = progress_text(counts, 100.0, 0.0, 10.0, bar=True)
        assert text.startswith("[")
        bar = text[1 : text.index("]")]
        assert len(bar) == BAR
        drawn.append(bar.count("#"))
    assert drawn == [0, BAR // 2, BAR, BAR]  # more than the headers promised is still the whole


@pytest.mark.parametrize(("total_s", "wall_s"), [(0.0, 0.0), (100.0, 0.0), (100.0, 5.0)])
def test_a_line_before_anything_is_done(total_s: float, wall_s: float) -> None:
    counts = {"planned_s": 0.0, "audio_s": 0.0, "segments": 0, "rejects": 0}
    text = progress_text(counts, total_s, 0.0, wall_s, bar=False)
    assert "? left" in text
    assert "0 segments" in text
