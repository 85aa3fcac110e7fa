"""``zsfuse label``: its output formats and errors."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.jobs.jobs_support import speech, write_wav
from zsfuse_ray import Labeller
from zsfuse_ray.cli import main
from zsfuse_ray.errors import InputError
from zsfuse_ray.label import text_of

LABELS = ["angry", "happy", "sad"]


@pytest.fixture(scope="module")
def talk(tmp_path_factory) -> Path:
    return write_wav(tmp_path_factory.mktemp("talk") / "talk.wav", speech(20, seed=1))


def test_csv_and_jsonl_match_the_rows_of_a_labeller(talk: Path, tmp_path: Path, capsys, caplog) -> None:
    (tmp_path / "broken.mp3").write_bytes(b"no audio")
    expected = Labeller.from_preset("mini", labels=LABELS).label(talk).reset_index()
    words = [str(talk), "--labels", ",".join(LABELS), str(tmp_path / "broken.mp3"), str(talk)]
    assert main(["label", *words, "--format", "csv"]) == 1
    assert "broken.mp3" in caplog.text
    rows = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert len(rows) == 2 * len(expected)
    assert list(rows["recording_uri"]) == 2 * list(expected["file"])
    np.testing.assert_allclose(rows["start_s"], 2 * list(expected["start"].dt.total_seconds()), atol=1e-3)
    assert list(rows["label"]) == 2 * list(expected["label"])
    np.testing.assert_allclose(rows["p_sad"], 2 * list(expected["p_sad"]), atol=1e-6)
    assert main(["label", str(talk), "--labels", ",".join(LABELS), "--format", "jsonl"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    pd.testing.assert_frame_equal(pd.DataFrame(lines), rows[: len(expected)], check_exact=False, atol=1e-6)


def test_a_table_shows_the_labels_and_their_posteriors() -> None:
    index = pd.MultiIndex.from_arrays(
        [["a.wav"], pd.to_timedelta([1.5], unit="s"), pd.to_timedelta([3], unit="s")],
        names=["file", "start", "end"],
    )
    columns = {"label": ["sad"], "confidence": [0.75], "entropy": [0.1], "p_sad": [0.75], "p_calm": [0.25]}
    rows = pd.DataFrame(columns, index=index)
    text = text_of(rows, "a.wav", "table", is_first=True)
    assert [line.split() for line in text.splitlines()] == [
        ["a.wav"],
        ["start_s", "end_s", "label", "confidence", "p_sad", "p_calm"],
        ["1.50", "3.00", "sad", "0.75", "0.75", "0.25"],
    ]
    assert text_of(rows[:0], "b.wav", "table", is_first=False) == "\nb.wav\nno speech\n"
    assert text_of(rows[:0], "b.wav", "jsonl", is_first=False) == ""


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "name the file to label"),
        (["/no/such.wav"], "/no/such.wav: no such file"),
        (["a.wav", "--lables", "sad"], "unknown option --lables"),
        (["a.wav", "--input", "demo"], "unknown option --input"),
        (["a.wav", "--format", "xml"], "--format xml"),
    ],
)
def test_wrong_command_lines_are_refused(argv: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        main(["label", *argv])


def test_a_missing_file_is_refused_before_torch_is_imported() -> None:
    code = (
        "import sys; from zsfuse_ray.cli import main; from zsfuse_ray.errors import InputError\n"
        "try: main(['label', '/no/such.wav'])\n"
        "except InputError: assert not sys.modules.keys() & {'torch', 'transformers', 'ray'}\n"
        "else: raise AssertionError"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
