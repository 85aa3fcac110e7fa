import logging
import time

import pytest

from zsfuse_ray.runs import progress
from zsfuse_ray.runs.progress import Progress, duration, progress_text, watched


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
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("done", "total", "unit", "done_now", "took_s", "text"),
    [
        # half an hour in 90 s is 20 times real time; the work of earlier commands does not count
        (3.0, 10.0, "h", 0.5, 90.0, "encoded 3.00 of 10.00 h of audio  20× real time  21 min left"),
        (10.0, 10.0, "h", 0.5, 90.0, "encoded 10.00 of 10.00 h of audio  20× real time  in 2 min"),
        (2.0, 8.0, "h", 0.0, 30.0, "encoded 2.00 of 8.00 h of audio  starting"),
        (1200, 4800, "clips", 1200, 60.0, "encoded 1,200 of 4,800 clips  20 clips/s  3 min left"),
        (0, 0, "parts", 0, 0.0, "encoded 0 of 0 parts  0 parts/s  in 0 s"),
    ],
)
def test_rate_and_time_left(
    done: float, total: float, unit: str, done_now: float, took_s: float, text: str
) -> None:
    assert progress_text("encoded", done, total, unit, done_now, took_s) == text


def test_log_lines_are_periodic_with_one_at_the_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = Progress("encoded", 100, "clips")
    for done in (10, 20, 50):
        now[0] += 10
        shown.update(done)
    shown.end()
    assert caplog.messages == [
        " 20%  encoded 20 of 100 clips  1 clips/s  80 s left",
        "100%  encoded 100 of 100 clips  3.33 clips/s  in 30 s",
    ]


def test_short_or_failed_work_has_no_final_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    Progress("labelled", 1, "parts").end()
    Progress("labelled", 2, "parts").end(complete=False)
    assert caplog.messages == []


def test_watched_polls_progress_from_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOOK_EVERY_S", 0.01)
    shown = Progress("encoded", 5, "clips")
    done: list[int] = []
    with watched(shown, lambda: len(done)):
        for n in range(3):
            done.append(n)
        wait_until = time.monotonic() + 5
        while shown.done < 3 and time.monotonic() < wait_until:
            time.sleep(0.01)
        assert shown.done == 3
    assert shown.done == 5
    with (
        pytest.raises(ValueError, match="broken"),
        watched(shown := Progress("encoded", 5, "clips"), lambda: 2),
    ):
        raise ValueError("broken")
    assert shown.done < 5
