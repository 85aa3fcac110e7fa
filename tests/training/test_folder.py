"""Ownership of a training's output folder, and its files."""

from pathlib import Path

import pyarrow.csv
import pytest

from zsfuse_ray.errors import InputError
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.provenance import versions
from zsfuse_ray.training.folder import RUN, STORAGE, clear, earlier_run, write_rejects

DECIDES = {"lr": 0.1, "epochs": 3}


def test_an_output_folder_belongs_to_one_training(tmp_path: Path) -> None:
    out = Output.open(str(tmp_path / "out"))
    assert earlier_run(out, DECIDES, False) is None
    (tmp_path / "out").mkdir()
    assert earlier_run(out, DECIDES, False) is None
    run = {"versions": versions(), "config": DECIDES, "status": "started"}
    out.write_json(RUN, run)
    assert earlier_run(out, DECIDES, False) == run
    with pytest.raises(InputError, match=r"holds another run's results \(lr 0.1 → 0.2\)"):
        earlier_run(out, DECIDES | {"lr": 0.2}, False)
    assert earlier_run(out, DECIDES | {"lr": 0.2}, True) is None
    out.write_bytes(f"{STORAGE}/checkpoint/state.pt", b"weights")
    out.write_bytes("mine.txt", b"kept")
    clear(out)
    assert [file.name for file in Path(out.root).iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match=r"/mine.txt exists, but no training wrote it"):
        earlier_run(out, DECIDES, True)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"config": {}}', b'{"versions": {"zsfuse_ray": "0"}}'])
def test_foreign_file_of_the_same_name_is_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RUN).write_bytes(content)
    with pytest.raises(InputError, match=r"exists, but (zsfuse_ray did not write|no training wrote) it"):
        earlier_run(Output.open(str(tmp_path)), DECIDES, False)


def test_unreadable_clips_are_listed(tmp_path: Path) -> None:
    out = Output.open(str(tmp_path))
    assert write_rejects(out, [{"uri": "a,b.wav", "problem": 'not "audio"'}]) == f"{tmp_path}/rejects.csv"
    found = pyarrow.csv.read_csv(tmp_path / "rejects.csv").to_pylist()
    assert found == [{"uri": "a,b.wav", "problem": 'not "audio"'}]
