"""A growing archive: only new recordings are decoded, only changed parts are written."""

import os
import shutil
from pathlib import Path

import pandas as pd

from tests.jobs.jobs_support import scored, speech, tables, write_wav


def arguments(folder: Path) -> list:
    return ["--input", folder / "in", "--output", folder / "out", "--vad", "none"]


def parts(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and modification time of the segments' files, by name."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted((folder / "out" / "segments").iterdir())
    }


def test_files_are_added_replaced_and_removed(run_job, tmp_path):
    for n in range(3):
        write_wav(tmp_path / "in" / f"{n}.wav", speech(12, seed=n))
    scored(run_job("score", *arguments(tmp_path)))
    first, files = tables(tmp_path / "out"), parts(tmp_path)
    assert list(files) == ["part-000000.parquet"]

    write_wav(tmp_path / "in" / "0 new.wav", speech(15, seed=7))
    done = run_job("score", *arguments(tmp_path))
    printed = scored(done)
    assert "recordings since the plan: 1 new" in done.stderr
    assert "4 recordings" in printed
    assert parts(tmp_path)["part-000000.parquet"] == files["part-000000.parquet"]
    items = pd.read_parquet(tmp_path / "out" / "encoded" / "001")["items"]
    assert [item["recording_id"] for row in items for item in row] == [3]
    second = tables(tmp_path / "out")
    of_before = second["segments"][~second["segments"].recording_uri.str.endswith("0 new.wav")]
    assert of_before.reset_index(drop=True).equals(first["segments"])

    write_wav(tmp_path / "in" / "1.wav", speech(18, seed=9))  # other content under the same name
    os.remove(tmp_path / "in" / "2.wav")
    done = run_job("score", *arguments(tmp_path))
    scored(done)
    assert "recordings since the plan: 1 changed, 1 gone (kept; --prune drops them)" in done.stderr
    third = tables(tmp_path / "out")
    for name in ("segments", "recordings"):
        kept = [
            table[~table.recording_uri.str.endswith("1.wav")].reset_index(drop=True)
            for table in (second[name], third[name])
        ]
        assert kept[0].equals(kept[1]), name
    replaced = third["recordings"][third["recordings"].recording_uri.str.endswith("1.wav")]
    assert replaced.duration_s.tolist() == [18.0]
    assert set(third["recordings"].recording_uri.str[-5:]) == {"0.wav", "1.wav", "2.wav", "w.wav"}

    files = parts(tmp_path)
    done = run_job("score", *arguments(tmp_path), "--prune")
    scored(done)
    assert "1 gone (dropped)" in done.stderr
    fourth = tables(tmp_path / "out")
    left = third["segments"][~third["segments"].recording_uri.str.endswith("2.wav")].reset_index(drop=True)
    assert fourth["segments"].equals(left)
    unchanged = [name for name, content in parts(tmp_path).items() if files[name] == content]
    assert unchanged == ["part-000001.parquet", "part-000002.parquet"]
    again = run_job("score", *arguments(tmp_path))
    assert "nothing to do" in again.stderr

    # a single run gives the same rows, apart from ids and order
    shutil.rmtree(tmp_path / "out")
    scored(run_job("score", *arguments(tmp_path)))
    whole = tables(tmp_path / "out")["segments"]
    names = ["recording_uri", "start_s", "end_s", "label"]
    rows = [table.sort_values(names)[names].reset_index(drop=True) for table in (whole, fourth["segments"])]
    assert rows[0].equals(rows[1])


def test_an_embedding_table_and_its_labels_grow_too(run_job, tmp_path):
    audio = speech(40, seed=3)
    write_wav(tmp_path / "talk.wav", audio)
    rows = [
        {"uri": "talk.wav", "start_s": 5.0 * n, "end_s": 5.0 * n + 4, "id": f"{n}", "speaker": "a"}
        for n in range(4)
    ]
    pd.DataFrame(rows[:3]).to_csv(tmp_path / "list.csv", index=False)
    table = ["--input", tmp_path / "list.csv", "--output", tmp_path / "table", "--vad", "none"]
    labels = ["--embeddings", tmp_path / "table", "--output", tmp_path / "labels"]
    scored(run_job("embed", *table))
    scored(run_job("score", *labels))
    before = (tmp_path / "labels" / "segments" / "part-000000.parquet").stat().st_mtime_ns
    rows[1]["speaker"] = "b"  # a changed row of the manifest is planned again
    pd.DataFrame(rows).to_csv(tmp_path / "list.csv", index=False)
    done = run_job("embed", *table)
    scored(done)
    assert "recordings since the plan: 1 new, 1 changed" in done.stderr
    scored(run_job("score", *labels))
    segments = tables(tmp_path / "labels")["segments"]
    assert sorted(zip(segments["id"], segments.speaker, strict=True)) == [
        ("0", "a"),
        ("1", "b"),
        ("2", "a"),
        ("3", "a"),
    ]
    assert (tmp_path / "labels" / "segments" / "part-000000.parquet").stat().st_mtime_ns != before
    rows[0]["mood"] = "x"
    pd.DataFrame(rows).to_csv(tmp_path / "list.csv", index=False)
    refused = run_job("embed", *table)
    assert refused.returncode == 2
    assert "its columns differ from the plan (mood)" in refused.stderr
