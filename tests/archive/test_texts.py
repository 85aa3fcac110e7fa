"""The column text of segments, from transcripts beside the recordings."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from tests.archive.encoded_folders import BOTH, Small
from tests.archive.labelled_parts import label_all, tables, task_of
from zsfuse_ray.archive.texts import find_transcripts, version_of, with_texts
from zsfuse_ray.errors import InputError


def write(folder: Path, name: str, *words: tuple[float, str]) -> None:
    cues = [{"start": t, "end": t + 0.2, "text": text} for t, text in words]
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps({"segments": cues}))


def test_segments_say_what_their_recording_s_transcript_says(small: Small, tmp_path: Path) -> None:
    folder = tmp_path / "said"
    segments = [row for row in small.rows for row in row["segments"]]
    longest = max((s for s in segments if s["item_id"] == 0), key=lambda s: s["end_s"] - s["start_s"])
    write(folder, "0.json", ((longest["start_s"] + longest["end_s"]) / 2, "hello"))
    (folder / "1.json").write_text("{")
    label_all(task_of(small, small.encode(BOTH), transcripts=find_transcripts(str(folder))))
    found = tables(small)
    texts = {n: [row["text"] for row in found["segments"] if row["recording_id"] == n] for n in (0, 1)}
    assert sorted(texts[0]) == [*[""] * (len(texts[0]) - 1), "hello"]
    assert set(texts[1]) == {None}
    unread = [row for row in found["rejects"] if row["stage"] == "transcript"]
    assert [(row["reason"], row["recording_uri"].split("?")[0]) for row in unread] == [
        ("unreadable", "https://host/1.wav")
    ]
    assert "1.json: not the JSON" in unread[0]["message"]
    for file in small.out.parquet_files("segments"):
        assert pa.types.is_string(
            small.out.read_table(file.removeprefix(f"{small.out.root}/")).schema.field("text").type
        )


def test_channels_have_the_words_said_while_they_speak(tmp_path: Path) -> None:
    write(tmp_path / "said", "a.json", (0.5, "one"), (2.5, "two"), (4.5, "both"))
    columns = {"recording_id": [7] * 4, "start_s": [0.0, 2.0, 4.0, 4.0], "end_s": [1.0, 3.0, 5.0, 5.0]}
    table = pa.table({**columns, "channel": [0, 1, 0, 1], "text": pa.nulls(4, pa.string())})
    recordings = pa.table({"recording_id": [7], "uri": ["/in/a.wav"]})
    transcripts = find_transcripts(str(tmp_path / "said"))
    assert transcripts is not None
    found, problems = with_texts(table, recordings, transcripts)
    assert found["text"].to_pylist() == ["one", "two", "both", "both"]
    assert problems == {}


def test_transcripts_of_no_recording_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "a.json", (0.0, "x"))
    with pytest.raises(InputError, match=r"no recording has one of its names \(a …\)"):
        find_transcripts(str(tmp_path), ["/in/b.wav"])
    assert find_transcripts(str(tmp_path), ["/in/a.wav", "/in/b.wav"])
    assert "1 recordings have no transcript" in caplog.text


def test_the_version_changes_with_the_content(tmp_path: Path) -> None:
    versions = []
    for text in ("a", "a longer text"):
        write(tmp_path, "a.json", (0.0, text))
        versions.append(version_of(find_transcripts(str(tmp_path))))
    assert versions[0] != versions[1]
    assert version_of(find_transcripts(str(tmp_path))) == versions[1]
