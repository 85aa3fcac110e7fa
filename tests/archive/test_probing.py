from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from zsfuse_ray.archive import probing as module
from zsfuse_ray.archive.probing import PROBED, probe_all, probe_recordings
from zsfuse_ray.audio.sources import SourceError


@pytest.fixture
def batch(tmp_path: Path) -> pa.Table:
    """Five files, of which only the first is a recording."""
    soundfile.write(tmp_path / "gööd 1.wav", np.zeros((12_000, 2), np.int16), 8000)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "notes.dat").write_text("To whom it may concern, " * 100)
    (tmp_path / "notes.MP3").write_text("To whom it may concern, " * 100)
    names = ["gööd 1.wav", "empty.wav", "notes.dat", "notes.MP3", "gone.wav"]
    return pa.table({"recording_id": range(5, 10), "uri": [str(tmp_path / name) for name in names]})


def test_each_file_has_a_header_or_a_reason(batch: pa.Table) -> None:
    probed = probe_recordings(batch)
    assert probed.schema == PROBED
    good, empty, text, named_audio, gone = probed.to_pylist()
    assert good == {
        "recording_id": 5,
        "duration_s": 1.5,
        "sample_rate": 8000,
        "channels": 2,
        "container": "wav",
        "codec": "pcm_s16le",
        "exact": True,
        "reason": None,
        "message": None,
    }
    assert [row["recording_id"] for row in (empty, text, named_audio, gone)] == [6, 7, 8, 9]
    assert empty["reason"] in ("empty", "not_audio")
    assert text["reason"] == "not_a_recording"  # not a failure: its suffix is not an audio one
    assert named_audio["reason"] == "not_audio"
    assert gone["reason"] == "not_found"
    for row, uri in zip(probed.to_pylist()[1:], batch["uri"].to_pylist()[1:], strict=True):
        assert row["duration_s"] is None
        assert Path(uri).name in row["message"]
        assert "\n" not in row["message"]


def test_few_files_are_probed_in_this_process(batch: pa.Table) -> None:
    assert probe_all(batch).equals(probe_recordings(batch))
    assert probe_all(batch.slice(0, 0)).schema == PROBED


@pytest.mark.parametrize(
    ("uri", "reason", "stops"),
    [
        ("s3://b/a.wav", "unreachable", True),
        ("s3://b/a.wav", "denied", True),
        ("s3://b/a.wav", "not_found", False),
        ("https://h/a.wav", "unreachable", False),
    ],
)
def test_an_unreachable_store_stops_the_plan(uri: str, reason: str, stops: bool, monkeypatch) -> None:
    """Its recordings must not be planned as unreadable."""

    def fail(uri: str):
        raise SourceError(reason, f"no answer of {uri} at https://me:hunter2@host/a")

    monkeypatch.setattr(module, "probe", fail)
    batch = pa.table({"recording_id": [0], "uri": [uri]})
    if stops:
        with pytest.raises(SourceError):
            probe_recordings(batch)
    else:
        (row,) = probe_recordings(batch).to_pylist()
        assert row["reason"] == reason
        assert "hunter2" not in row["message"]
