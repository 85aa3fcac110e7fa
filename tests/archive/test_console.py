from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from zsfuse_ray.archive import console
from zsfuse_ray.archive.growth import Changes
from zsfuse_ray.archive.plan import Plan
from zsfuse_ray.archive.result import RunResult
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.runs.folder import Output

COUNTS = {
    **{"recordings": 1200, "items": 2000, "unreadable": 100, "segments": 34_567, "failures": 105},
    **{"audio_hours": 12.345, "speech_hours": 6.5, "encoder_inputs": 70_000},
    **{"rejects": {"no_speech": 3, "corrupt": 105}, "label_shares": {"sad": 0.25, "angry": 0.75}},
    **{"median_confidence": {"angry": 0.62}},
}
EFFECTS = {"1": {"same": 4}, "2": {"same": 3, "cropped": 1, "more": 0}, "3": {"same": 0}}


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 kB"),
        (999, "0.999 kB"),
        (1000, "1 kB"),
        (1_234_567, "1.23 MB"),
        (5e9, "5 GB"),
        (2.5e12, "2.5 TB"),
    ],
)
def test_bytes(size: float, text: str) -> None:
    assert console.bytes_text(size) == text


def test_petabytes_are_shown_in_terabytes() -> None:
    assert console.bytes_text(3e15) == "3e+03 TB"


def plan_of(**totals: float) -> Plan:
    made: Any = SimpleNamespace(
        total=totals.__getitem__,
        containers={"mp3": 1990, "wav": 9},
        out=Output("out", cast(Any, None), "out"),
    )
    return made


PLAN = plan_of(hours=1.256, playable=1999, recordings=2000, items=3000, bundles=40)


def test_plan_text() -> None:
    first, second, third, fourth = console.plan_text(PLAN, 100.0).splitlines()
    assert first == "1.26 h of audio in 1,999 of 2,000 recordings (1990 mp3, 9 wav)"
    assert second == "3,000 items in 40 bundles; the plan is in out/plan"
    assert third.startswith("encoded/ will take up to 3.42 MB with large models")
    assert fourth.startswith("about 2 min to decode")
    assert len(console.plan_text(PLAN, None).splitlines()) == 3


def rows(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


@pytest.mark.parametrize(
    ("changes", "prune", "line"),
    [
        (
            Changes(rows(1, 2), rows(3), rows(0), rows()),
            False,
            "recordings since the plan: 2 new, 1 changed\n",
        ),
        (
            Changes(rows(), rows(), rows(), rows(4)),
            False,
            "since the plan: 1 gone (kept; --prune drops them)\n",
        ),
        (Changes(rows(), rows(), rows(), rows(4)), True, "since the plan: 1 gone (dropped)\n"),
        (Changes(rows(), rows(), rows(), rows()), True, ""),
    ],
)
def test_changes_of_the_archive(changes: Changes, prune: bool, line: str, caplog) -> None:
    caplog.set_level("INFO")
    console.print_changes(changes, prune)
    assert len(caplog.messages) == bool(line)
    assert "".join(f"{message}\n" for message in caplog.messages).endswith(line)


def test_the_summary_of_labels() -> None:
    run = {"config": {"labels": ["sad", "angry"]}, "counts": COUNTS, "effective_repetition": EFFECTS}
    alm = {
        "model": "clap:x",
        "licence": "mit",
        "trained_on": ["a", "b"],
        "prompts_truncated": {"1": 0, "8": 2},
    }
    run |= {"models": {"alm": alm, "specialist": {"model": "classifier:y", "licence": None}}}
    assert console.summary(run, "out").splitlines() == [
        "12.35 h of audio in 1,200 recordings, 6.50 h of speech in 34,567 segments",
        "labels by speech time (median confidence): angry 75% (0.62), sad 25%",
        "rejects: 105 corrupt, 3 no_speech",
        "audio × 2: same input as one copy 75%, cropped 25%",
        "text × 8: 2 prompts exceeded the model's maximum length and were truncated",
        "models: clap:x was trained on a, b (licence: mit); classifier:y was trained on data not named in "
        "its model card (licence: not stated)",
        "tables: out/segments  recordings  rejects   run: out/run.json",
        "look:   python -c \"import pandas as pd; print(pd.read_parquet('out/segments').iloc[:, :5])\"",
    ]
    run = {"config": {"labels": ["sad"]}, "counts": COUNTS | {"rejects": {}}, "models": {}}
    assert len(console.summary(run, "out").splitlines()) == 4


def test_the_summary_of_embeddings() -> None:
    models = {
        "alm": {"model": "clap:x", "audio_repeats": [1, 2]},
        "alm2": {"model": "dual:y", "audio_repeats": [1]},
        "specialist": {"model": "classifier:z"},
    }
    effects = {"alm": EFFECTS, "alm2": {"1": {"same": 4}}}
    run = {"config": {}, "counts": COUNTS, "models": models, "effective_repetition": effects}
    assert console.summary(run, "out").splitlines() == [
        "12.35 h of audio in 1,200 recordings, 6.50 h of speech in 34,567 segments",
        "rejects: 105 corrupt, 3 no_speech",
        "clap:x: audio × 2: same input as one copy 75%, cropped 25%",
        "70,000 distinct inputs for 34,567 segments × 3 audio repeats",
        "tables: out/encoded  recordings  rejects   run: out/run.json",
        "label:  zsfuse score --embeddings out --output labels",
    ]
    alone = run | {"models": {"alm": models["alm"]}}
    assert console.summary(alone, "out").splitlines()[2].startswith("audio × 2:")
    assert "distinct inputs" not in console.summary(run | {"models": {"specialist": {}}}, "out")


@pytest.mark.parametrize(("allowed", "code"), [(0.05, 0), (0.0499, 1)])
def test_too_many_failures_give_exit_code_1(allowed: float, code: int, caplog) -> None:
    """105 of 2,000 items and 100 files that could not be opened."""
    assert console.exit_code(COUNTS, allowed) == code
    expected = "105 of 2100 items failed (5.0%, more than the 5.0% of --max-reject-rate); "
    assert [message.startswith(expected) for message in caplog.messages] == [True] * code
    assert console.exit_code(COUNTS | {"items": 0, "unreadable": 0, "failures": 0}, 0.0) == 0


def test_a_result_is_printed_with_its_exit_code(capsys) -> None:
    run = {"config": {"labels": ["sad"]}, "counts": COUNTS, "models": {}}
    result = RunResult(Output("out", cast(Any, None), "out"), run)
    assert console.print_result(result, 0.5) == 0
    assert console.print_result(result, 0.0) == 1
    assert capsys.readouterr().out == 2 * (console.summary(run, "out") + "\n")


@pytest.mark.parametrize(("share", "warned"), [(0.9, False), (0.91, True)])
def test_a_label_on_nearly_all_speech_causes_a_warning(share: float, warned: bool, caplog) -> None:
    counts = COUNTS | {"label_shares": {"sad": share, "angry": 1 - share}, "failures": 0}
    run = {"config": {"labels": ["sad", "angry"]}, "counts": counts, "models": {}}
    assert console.print_result(RunResult(Output("out", cast(Any, None), "out"), run), 0.0) == 0
    assert [line.startswith("warning: 91% of the speech is labelled sad; ") for line in caplog.messages] == [
        True
    ] * warned


def test_no_warning_if_nearly_all_speech_is_unsure() -> None:
    assert console.one_sided({"label_shares": {"sad": 0.02, "unsure": 0.98}}) is None


def test_untrained_models_cause_a_warning(caplog) -> None:
    caplog.set_level("INFO")
    names = {"input": "demo", "output": "out", "specialist": "classifier:untrained"}
    assert console.print_models(ScoreConfig(**names, alm="clap:untrained"), "mini") is None
    assert caplog.messages[-1].startswith("UNTRAINED alm and specialist: random weights")
    figures = console.print_models(ScoreConfig(input="demo", output="out"), "mini")
    assert figures is not None
    assert caplog.messages[-1].startswith("preset mini: models that come with the package. UA on ")


def test_numbers_and_their_nouns_agree() -> None:
    assert [console.plural(n, "recording") for n in (0, 1, 2, 1234)] == [
        "0 recordings", "1 recording", "2 recordings", "1,234 recordings",
    ]  # fmt: skip
    assert console.plural(2, "batch", "batches") == "2 batches"
    counts = {"rejects": {}, "audio_notes": {"the stronger channel was used": 1}}
    assert console.reject_lines(counts) == ["note: 1 recording: the stronger channel was used"]


def test_halved_batches_are_reported_with_the_way_out() -> None:
    assert console.memory_lines({"time": {"gpu_batches_halved": 0}}) == []
    (line,) = console.memory_lines({"time": {"gpu_batches_halved": 1}})
    assert line.startswith("1 batch did not fit")
    assert "--batch-s" in line
