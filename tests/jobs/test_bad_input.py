"""Errors and rejects for bad input."""

import numpy as np
import pytest
import soundfile

from tests.jobs.jobs_support import lines, scored, speech, tables, write_wav


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "missing", "no such file or folder"),
        (lambda folder: folder, "the folder is empty"),
        (lambda folder: (folder / "notes.txt").write_text("x") and folder, "no audio in it"),
        (lambda folder: f"{folder}/*.mp3", "nothing there"),
        (lambda folder: (folder / "data.bin").write_bytes(b"x" * 999) and folder, "no audio in it"),
    ],
)
def test_no_archive(run_job, tmp_path, make, message):
    folder = tmp_path / "in"
    folder.mkdir()
    out = tmp_path / "out"
    done = run_job("score", "--input", make(folder), "--output", out)
    assert done.returncode == 2
    assert message in lines(done.stderr)[-1]
    assert str(folder) in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lables", "a,b"], "--labels"),
        (["--labels", "ravdes"], "at least two"),
        (["--alm", "claap:x"], "clap"),
        (["--specialist", "/no/such/folder"], "/no/such/folder"),
        (["--templates", "he is sad"], "{}"),
        (["--labels", "blue,green", "--alm", "none"], "label"),
    ],
)
def test_wrong_options(run_job, tmp_path, arguments, message):
    done = run_job("score", "--input", "demo", "--output", tmp_path / "out", *arguments)
    assert done.returncode == 2, done.stderr
    assert message in lines(done.stderr)[-1]


@pytest.fixture(scope="module")
def strange(run_job, tmp_path_factory):
    """A folder with files of many kinds, scored; returns its tables by file name and the finished job."""
    folder = tmp_path_factory.mktemp("strange") / "in"
    good = speech(12)
    for name in ("good", "ünïcödé 名前 and spaces"):
        write_wav(folder / f"{name}.wav", good)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.mp3").write_text("this is no audio " * 100)
    (folder / "random.flac").write_bytes(np.random.default_rng(0).bytes(20_000))
    soundfile.write(folder / "whole.flac", good, 16_000)
    whole = (folder / "whole.flac").read_bytes()
    (folder / "truncated.flac").write_bytes(whole[: len(whole) // 2])
    (folder / "holed.flac").write_bytes(whole[:60_000] + bytes(20_000) + whole[80_000:])
    write_wav(folder / "silence.wav", np.zeros(16_000 * 5))
    tune = sum(np.sin(2 * np.pi * f * np.arange(160_000) / 16_000) for f in (220, 277, 330)) / 6
    write_wav(folder / "music.wav", tune)
    write_wav(folder / "short.wav", good[8000:9600])
    write_wav(folder / "8kHz.wav", speech(12, rate=8000), 8000)
    soundfile.write(folder / "96kHz.wav", np.repeat(good, 6), 96_000)
    soundfile.write(folder / "8 channels.wav", np.repeat(good[:, None], 8, axis=1), 16_000)
    write_wav(folder / "dc.wav", good * 0.5 + 0.4)
    broken = good.astype(np.float32)
    broken[1000:1100] = np.nan
    broken[2000] = np.inf
    soundfile.write(folder / "nan.wav", broken, 16_000, subtype="FLOAT")
    (folder / "whole.flac").rename(folder / "really flac.mp3")
    out = folder.parent / "out"
    done = run_job("score", "--input", folder, "--output", out)
    found = {
        name: {uri.rsplit("/", 1)[1]: rows for uri, rows in table.groupby("recording_uri")}
        for name, table in tables(out).items()
    }
    return found, done


def test_too_many_failures_give_exit_code_1_with_complete_tables(strange):
    _, done = strange
    assert done.returncode == 1
    assert "--max-reject-rate" in done.stderr


@pytest.mark.parametrize("name", ["empty.wav", "text.mp3", "random.flac"])
def test_unreadable_files_are_rejected_with_a_reason(strange, name):
    found, _ = strange
    (row,) = found["rejects"][name].to_dict("records")
    assert row["stage"] in ("probe", "decode")
    assert row["reason"] in ("empty", "not_audio", "corrupt")
    assert row["message"]
    assert name not in found["segments"]


def test_the_readable_part_of_a_broken_file_is_labelled(strange):
    found, _ = strange
    for name in ("truncated.flac", "holed.flac"):
        assert len(found["segments"][name]), name
        assert "truncated" in found["rejects"][name].reason.tolist(), name
    assert found["segments"]["truncated.flac"].end_s.max() < 8


@pytest.mark.parametrize(
    "name",
    [
        "good.wav",
        "ünïcödé 名前 and spaces.wav",
        "8kHz.wav",
        "96kHz.wav",
        "8 channels.wav",
        "dc.wav",
        "nan.wav",
        "really flac.mp3",
    ],
)
def test_unusual_but_valid_files_are_labelled(strange, name):
    found, _ = strange
    assert len(found["segments"][name])
    assert name not in found["rejects"]


@pytest.mark.parametrize("name", ["silence.wav", "music.wav", "short.wav"])
def test_files_without_speech_are_recordings_without_segments(strange, name):
    found, _ = strange
    assert found["recordings"][name].n_segments.item() == 0
    assert found["rejects"][name].reason.item() == "no_speech"


def test_tables_contain_no_nan(strange):
    found, _ = strange
    for name in ("segments", "recordings"):
        for rows in found[name].values():
            numbers = rows.select_dtypes("number").to_numpy()
            assert np.isfinite(numbers).all()


def test_bad_files_do_not_affect_others(strange, run_job, tmp_path):
    found, _ = strange
    write_wav(tmp_path / "in" / "good.wav", speech(12))
    scored(run_job("score", "--input", tmp_path / "in", "--output", tmp_path / "out"))
    alone = tables(tmp_path / "out")["segments"]
    beside = found["segments"]["good.wav"].reset_index(drop=True)
    names = [name for name in alone if name not in ("recording_uri", "recording_id", "item_id", "segment_id")]
    assert np.allclose(alone[names[:2]], beside[names[:2]])
    p = [name for name in alone if name.startswith("p_")]
    assert np.allclose(alone[p], beside[p], atol=1e-5)


def test_an_archive_of_only_broken_audio(run_job, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.wav").write_bytes(b"RIFF....WAVE")
    done = run_job("score", "--input", tmp_path / "in" / "broken.wav", "--output", tmp_path / "out")
    assert done.returncode == 1
    found = tables(tmp_path / "out")
    assert len(found["rejects"]) == 1
    assert not len(found["segments"])
    assert "p_happy" in found["segments"]


def test_every_real_odd_file_is_labelled_or_rejected(run_job, shared, tmp_path):
    done = run_job("score", "--input", shared / "odd", "--output", tmp_path / "out", "--max-reject-rate", "1")
    scored(done)
    found = tables(tmp_path / "out")
    seen = {uri for table in found.values() for uri in table.recording_uri}
    silent = found["recordings"][found["recordings"].n_segments == 0].recording_uri
    assert {path.name for path in (shared / "odd").iterdir()} == {uri.rsplit("/", 1)[1] for uri in seen}
    assert set(silent) <= set(found["rejects"].recording_uri)
