"""Attempts are counted if they did not finish, also across runs."""

from zsfuse_ray.runs.tally import STOPS_A_DEATH, Attempts


def test_only_unfinished_attempts_count() -> None:
    attempts = Attempts()
    assert [attempts.begin(7) for _ in range(3)] == [1, 2, 3]
    attempts.end(7)
    assert attempts.begin("7") == 1  # the same input
    assert attempts.begin("encode alm 7") == 1


def test_deaths_count_across_runs_and_stops_a_little() -> None:
    attempts = Attempts()
    for _ in range(3):
        attempts.begin("deadly")
    attempts.begin("innocent")
    attempts.begin("done")
    attempts.end("done")
    again = Attempts(attempts.state())
    assert again.begin("deadly") == 3  # two deaths were seen, the third may be the end of the run
    assert again.begin("innocent") == 1
    for _ in range(STOPS_A_DEATH - 1):
        again = Attempts(again.state())
        again.begin("innocent")
    again = Attempts(again.state())
    assert again.begin("innocent") == 2
    assert again.state()["begun"] == ["innocent"]
    again.end("innocent")
    assert again.begin("innocent") == 1
