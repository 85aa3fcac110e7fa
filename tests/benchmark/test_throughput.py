import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zsfuse_ray.archive.listing import list_archive
from zsfuse_ray.benchmark.throughput import decoded_sample, decoding, run_job, steady_speed
from zsfuse_ray.errors import InputError


def test_sample_has_whole_bundles_up_to_the_requested_length():
    listing = list_archive("demo")  # four recordings of 15 s, one bundle
    sample = decoded_sample(listing, 1.0)
    assert sample.audio_s == pytest.approx(60)
    assert 20 < sample.speech_s < 60
    assert decoded_sample(listing, 1e6).audio_s == pytest.approx(60)


def test_both_together_are_slower_than_either_alone():
    both, alone, activity = decoding(decoded_sample(list_archive("demo"), 60), repeats=3)
    assert len(both.values) == 3
    assert both.median < min(alone.median, activity.median)


def test_undecodable_archive_is_rejected(tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(b"RIFF....WAVE")
    with pytest.raises(InputError, match="no audio in it can be decoded"):
        decoded_sample(list_archive(str(tmp_path)), 60)


def test_steady_state_excludes_the_first_file(tmp_path: Path):
    assert steady_speed(tmp_path) is None
    for n, (when, audio_s) in enumerate([(100, 7.0), (103, 30.0), (101, 20.0), (105, 50.0)]):
        path = tmp_path / f"{n}.parquet"
        pq.write_table(pa.table({"items": [[{"audio_s": audio_s / 2}, {"audio_s": audio_s / 2}]]}), path)
        os.utime(path, (when, when))
    assert steady_speed(tmp_path) == pytest.approx(100 / 5)


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [(2, InputError, "zsfuse job: no such thing"), (3, RuntimeError, "zsfuse job failed with exit code 3")],
)
def test_failed_job_raises_its_last_line(tmp_path: Path, code, kind, message):
    script = tmp_path / "job.py"
    script.write_text(f"import sys; print('error: no such thing', file=sys.stderr); sys.exit({code})")
    with pytest.raises(kind) as broken:
        run_job("job", {}, (sys.executable, str(script)))
    assert message in str(broken.value)


def test_job_runs_with_its_own_ray_and_this_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:1")
    script = tmp_path / "job.py"
    script.write_text(
        "import os, pathlib, sys, yaml\n"
        "_, verb, option, file = sys.argv\n"
        "options = yaml.safe_load(open(file))\n"
        "assert verb == 'job' and option == '--config' and options['encoders'] == [1, 2]\n"
        "message = os.environ['PYTHONPATH'] + str('RAY_ADDRESS' in os.environ)\n"
        "pathlib.Path(options['output']).write_text(message)"
    )
    options = {"output": str(tmp_path / "message"), "encoders": [1, 2]}
    assert run_job("job", options, (sys.executable, str(script))) > 0
    message = (tmp_path / "message").read_text()
    assert message.startswith(str(Path(__file__).parents[2]))
    assert message.endswith("False")
