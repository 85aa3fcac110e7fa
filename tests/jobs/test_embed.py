"""An archive encoded once; scoring its embedding table matches scoring its audio."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.jobs.jobs_support import lines, run_process, scored, speech, tables, write_wav
from zsfuse_ray.archive.table import read_table
from zsfuse_ray.runs.folder import Output

MEANT = [
    "--labels",
    "angry,happy,sad,neutral,bored",
    "--text-repeats",
    "1,2",
    "--weight",
    "0.3",
    "--temperature",
    "2",
    "--specialist-temperature",
    "1",
    "--fused-temperature",
    "1",
]


class Killed(BaseException):
    """Stands for SIGKILL: no handler catches it."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """A manifest of labelled slices, one of them of a broken file."""
    folder = tmp_path_factory.mktemp("archive")
    rows = []
    for n in range(5):
        write_wav(folder / f"{n}.wav", speech(14 + 3 * n, seed=n))
        rows.append({"uri": f"{n}.wav", "start_s": 1.0 if n == 2 else None, "end_s": 9.5 if n == 2 else None})
        rows[-1] |= {"emotion": ("sad", "angry")[n % 2], "speaker": f"{n % 3}", "label": "theirs"}
    (folder / "broken.mp3").write_bytes(b"no audio")
    rows.append({"uri": "broken.mp3", "emotion": "sad", "speaker": "0", "label": "theirs"})
    pd.DataFrame(rows).to_csv(folder / "clips.csv", index=False)
    return folder / "clips.csv"


def options(archive: Path) -> list:
    return ["--input", archive, "--item-s", "20", "--max-reject-rate", "1", "--preset", "untrained"]


@pytest.fixture(scope="module")
def table(archive, run_job) -> tuple[Path, str]:
    """The archive's embedding table, and what the job printed."""
    folder = archive.parent / "table"
    return folder, scored(run_job("embed", *options(archive), "--output", folder))


@pytest.fixture(scope="module")
def from_audio(archive, run_job) -> tuple[Path, str]:
    """The archive labelled from its audio."""
    out = archive.parent / "audio"
    done = run_job("score", *options(archive), "--output", out, *MEANT, "--audio-repeats", "1,3")
    return out, scored(done)


def same(first: dict[str, pd.DataFrame], second: dict[str, pd.DataFrame]) -> None:
    """Assert that tables are equal, numbers to 1e-6."""
    for name, expected in first.items():
        found = second[name]
        assert list(found) == list(expected)
        for column in expected:
            if expected[column].dtype.kind == "f":
                np.testing.assert_allclose(found[column], expected[column], atol=1e-6, err_msg=column)
            else:
                assert found[column].equals(expected[column]), column


def test_scoring_the_table_matches_scoring_the_audio(table, from_audio, run_job, tmp_path):
    options = [*MEANT, "--audio-repeats", "1,3", "--max-reject-rate", "1"]
    printed = scored(run_job("score", "--embeddings", table[0], "--output", tmp_path / "out", *options))
    expected, found = tables(from_audio[0]), tables(tmp_path / "out")
    assert len(expected["segments"]) > 10
    assert len(expected["rejects"]) == 1
    same(expected, found)
    from_table, of_audio = (
        [line for line in text.splitlines() if "/" not in line] for text in (printed, from_audio[1])
    )
    assert from_table == of_audio
    runs = [json.loads((folder / "run.json").read_text()) for folder in (from_audio[0], tmp_path / "out")]
    counts = [run["counts"] for run in runs]
    assert counts[0]["label_shares"] == pytest.approx(counts[1]["label_shares"])
    # the table has more audio repeats than were requested
    assert counts[0]["encoder_inputs"] < counts[1]["encoder_inputs"]
    for name in set(counts[0]) - {"encoder_inputs", "label_shares"}:
        assert counts[0][name] == pytest.approx(counts[1][name]), name
    assert runs[0]["effective_repetition"] == runs[1]["effective_repetition"]
    assert runs[0]["models"]["specialist"] == runs[1]["models"]["specialist"]
    assert {k: runs[1]["models"]["alm"][k] for k in runs[0]["models"]["alm"]} == runs[0]["models"]["alm"]


def test_the_table_contains_the_models_outputs(table):
    folder, printed = table
    assert {path.name for path in folder.iterdir()} == {
        "plan",
        "encoded",
        "labelled",
        "recordings",
        "rejects",
        "run.json",
    }
    run = json.loads((folder / "run.json").read_text())
    assert {path.name for path in (folder / "encoded").iterdir()} == {"000", "encoded.json"}
    assert run["models"]["alm"]["audio_repeats"] == [1, 2, 3, 4]
    assert run["models"]["specialist"]["labels"] == ["angry", "happy", "neutral", "sad"]
    assert run["models"]["alm"]["revision"]
    assert run["models"]["alm"]["window"] == 480_000
    read = read_table(str(folder))
    n = len(read.segments)
    assert read.audio((1, 2, 3, 4)).shape == (n, 4, run["models"]["alm"]["dim"])
    assert read.logits().shape == (n, 4)
    dim = run["models"]["alm"]["dim"]
    kept = pd.read_parquet(folder / "encoded" / "000").alm_embeddings.map(len).sum() // (2 * dim)
    assert n < kept == run["counts"]["encoder_inputs"] < 4 * n  # no segment is longer than the window
    assert f"{kept:,} distinct inputs for {n:,} segments" in printed
    assert set(read.segments["emotion"].to_pylist()) == {"sad", "angry"}
    assert set(read.segments["label"].to_pylist()) == {"theirs"}
    assert len(pd.read_parquet(folder / "rejects")) == 1


def test_the_same_command_again_does_nothing(table, archive, cluster, tmp_path):
    folder, printed = table
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    nowhere = {**cluster, "RAY_ADDRESS": "127.0.0.1:1"}
    again = run_process("embed", *options(archive), "--output", folder, env=nowhere)
    assert "nothing to do" in again.stderr
    assert scored(again) == printed
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_killed_run_resumes(table, archive, run_job, tmp_path, monkeypatch):
    """Killed between the tables and the final run.json."""
    folder, written = tmp_path / "table", []
    write = Output.write_json

    def dies(out, name, value):
        if value.get("status") == "complete" and not written:
            written.append(name)
            raise Killed
        write(out, name, value)

    monkeypatch.setattr(Output, "write_json", dies)
    with pytest.raises(Killed):
        run_job("embed", *options(archive), "--output", folder)
    files = {path: path.stat().st_mtime_ns for path in (folder / "encoded").rglob("*.parquet")}
    scored(run_job("embed", *options(archive), "--output", folder))
    assert len(files) > 1
    assert files == {path: path.stat().st_mtime_ns for path in (folder / "encoded").rglob("*.parquet")}
    first, second = (read_table(str(path)) for path in (table[0], folder))
    assert first.segments.equals(second.segments)
    np.testing.assert_array_equal(first.audio((1, 2, 3, 4)), second.audio((1, 2, 3, 4)))
    np.testing.assert_array_equal(first.logits(), second.logits())


def test_a_table_can_be_extended_by_models_and_repeats(table, archive, run_job, tmp_path, monkeypatch):
    """Only these are computed; after a kill the old table is usable; the final one matches a single run."""
    folder, models = tmp_path / "table", ["--alm", "clap:untrained,dual:untrained"]
    scored(run_job("embed", *options(archive), "--output", folder, "--audio-repeats", "1,2"))
    first = {path: path.stat().st_mtime_ns for path in (folder / "encoded" / "000").rglob("*.parquet")}
    write = Output.write_json

    def dies(out, name, value):
        if len(value.get("passes", ())) == 2 and value["passes"][1]["complete"]:
            raise Killed
        write(out, name, value)

    monkeypatch.setattr(Output, "write_json", dies)
    more = ["--output", folder, *models, "--audio-repeats", "1,2,3,4"]
    with pytest.raises(Killed):
        run_job("embed", *options(archive), *more)
    monkeypatch.undo()
    # complete models can be used in the meantime
    meanwhile = ["--embeddings", folder, "--audio-repeats", "1,2", "--max-reject-rate", "1"]
    scored(run_job("score", *meanwhile, "--output", tmp_path / "meanwhile"))
    refused = run_job("score", *meanwhile, "--output", tmp_path / "no", "--alm", "dual:untrained")
    assert "is incomplete; run the same zsfuse embed again" in lines(refused.stderr)[-1]
    scored(run_job("embed", *options(archive), *more))
    assert {path.name for path in (folder / "encoded").iterdir()} == {"000", "001", "encoded.json"}
    assert first == {
        path: path.stat().st_mtime_ns for path in (folder / "encoded" / "000").rglob("*.parquet")
    }
    run = json.loads((folder / "run.json").read_text())
    assert list(run["models"]) == ["alm", "specialist", "alm2"]
    found, expected = read_table(str(folder)), read_table(str(table[0]))
    assert found.segments.equals(expected.segments)
    np.testing.assert_allclose(found.audio((1, 2, 3, 4)), expected.audio((1, 2, 3, 4)), atol=1e-6)
    np.testing.assert_array_equal(found.logits(), expected.logits())
    assert found.audio((1, 2), "alm2").shape == (len(found.segments), 2, 32)
    n = len(found.segments)
    of_clap = json.loads((table[0] / "run.json").read_text())["counts"]["encoder_inputs"]
    assert run["counts"]["encoder_inputs"] == of_clap + 4 * n  # none twice; a dual's repeats all differ
    again = run_job("embed", *options(archive), *more)
    assert "nothing to do" in again.stderr
    out = ["--output", tmp_path / "out", "--max-reject-rate", "1"]
    scored(run_job("score", "--embeddings", folder, *out, "--alm", "dual:untrained"))
    assert (
        json.loads((tmp_path / "out" / "run.json").read_text())["models"]["alm"]["model"] == "dual:untrained"
    )
    search = ["--folds", 3, "--templates", "a {} voice|{}", "--ensembles", "logit", "--resamples", 100]
    of_table = ["--embeddings", folder, "--audio-repeats", "1,2", "--text-repeats", 1]
    tuning = run_job("tune", *of_table, *search, "--temperatures", 1, "--output", tmp_path / "tuning")
    assert "tuned:" in scored(tuning)
    result = json.loads((tmp_path / "tuning" / "tune.json").read_text())
    assert list(result["models"]) == ["alm", "alm2", "specialist"]
    assert result["clips"]["encoded"] == n
    blocks = {path.stem.split("_", 1)[1] for path in (tmp_path / "tuning" / "best").glob("*.parquet")}
    assert {name.startswith("alm2_") for name in blocks} == {True, False}
    tuned = yaml.safe_load((tmp_path / "tuning" / "tuned.yaml").read_text())
    assert tuned["alm"] in ("clap:untrained", "dual:untrained")
    tuned_out = ["--output", tmp_path / "tuned", "--max-reject-rate", "1"]
    scored(
        run_job("score", "--embeddings", folder, "--tuned", tmp_path / "tuning" / "tuned.yaml", *tuned_out)
    )
    lacks = run_job("tune", *of_table, *search, "--audio-repeats", "7", "--output", tmp_path / "no")
    assert lacks.returncode == 2
    assert "without audio repeats 7 (it has 1,2,3,4)" in lines(lacks.stderr)[-1]
    refused = run_job("embed", *options(archive), "--output", folder, "--long", "crop")
    assert "long windows → crop" in lines(refused.stderr)[-1]


def test_a_table_is_evaluated_without_an_svm(table, run_job, tmp_path):
    arguments = ["--embeddings", table[0], "--folds", 3, "--audio-repeats", "1,2", "--text-repeats", 1]
    done = run_job("evaluate", *arguments, "--resamples", 100, "--output", tmp_path / "figures")
    scored(done)
    assert "the SVM baseline is left out" in done.stderr
    (found,) = json.loads((tmp_path / "figures" / "evaluation.json").read_text())["corpora"].values()
    assert {"specialist", "alm_ensemble", "zs_fuse"} <= set(found["systems"])
    assert "svm" not in found["systems"]
    predicted = pd.read_parquet(tmp_path / "figures" / "predictions.parquet")
    read = read_table(str(table[0]))
    assert len(predicted) == len(read.segments)
    specialist = predicted.set_index(["uri", "start_s"]).specialist
    of_table = dict(
        zip(
            zip(*(read.segments[name].to_pylist() for name in ("recording_uri", "start_s")), strict=True),
            read.logits(),
            strict=True,
        )
    )
    order = read.models["specialist"]["labels"]
    rounds = predicted.set_index(["uri", "start_s"])["round"]
    for place, posterior in specialist.items():
        temperature = found["choices"][rounds[place] - 1]["specialist"]["temperature"]
        likely = of_table[place][[order.index(label) for label in ("angry", "sad")]] / temperature
        np.testing.assert_allclose(posterior, np.exp(likely) / np.exp(likely).sum(), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--alm", "dual:untrained"], "was encoded with --alm clap:untrained"),
        (["--audio-repeats", "1,5"], "without audio repeats 5 (it has 1,2,3,4)"),
        (["--input", "demo"], "--input and --embeddings exclude each other"),
        (["--vad", "none"], "--vad has no effect with --embeddings"),
    ],
)
def test_options_that_do_not_fit_the_table_are_refused(table, run_job, tmp_path, arguments, message):
    done = run_job("score", "--embeddings", table[0], "--output", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert message in lines(done.stderr)[-1]
    assert not (tmp_path / "out").exists()


def test_wrong_folders_are_refused(table, from_audio, archive, run_job, tmp_path):
    (tmp_path / "nothing").mkdir()
    message = lines(
        run_job("score", "--embeddings", tmp_path / "nothing", "--output", tmp_path / "out").stderr
    )[-1]
    assert "no embedding table there" in message
    message = lines(run_job("score", "--embeddings", table[0], "--output", from_audio[0]).stderr)[-1]
    assert "holds another run's results" in message
    message = lines(run_job("score", "--embeddings", table[0], "--output", table[0]).stderr)[-1]
    assert "is the embedding table itself" in message
    (tmp_path / "mine" / "encoded").mkdir(parents=True)
    message = lines(run_job("embed", *options(archive), "--output", tmp_path / "mine").stderr)[-1]
    assert "encoded exists, but no run wrote it" in message


def test_score_labels_an_embedded_archive_in_place(archive, run_job, tmp_path):
    """Running embed again does not change the labels."""
    folder = tmp_path / "table"
    scored(run_job("embed", *options(archive), "--output", folder, "--audio-repeats", "1"))
    files = {path: path.stat().st_mtime_ns for path in (folder / "encoded").rglob("*.parquet")}
    done = run_job("score", *options(archive), "--output", folder, *MEANT)
    scored(done)
    assert "already encoded: labelling without audio" in done.stderr
    assert files == {path: path.stat().st_mtime_ns for path in (folder / "encoded").rglob("*.parquet")}
    before = tables(folder)
    scored(run_job("embed", *options(archive), "--output", folder, "--audio-repeats", "1,2"))
    after = tables(folder)
    assert all(before[name].equals(after[name]) for name in before)
    again = run_job("score", *options(archive), "--output", folder, *MEANT)
    assert "nothing to do" in again.stderr
