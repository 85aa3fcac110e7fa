"""Checkpoints named by a URI; tests/jobs/test_s3.py does the same with a real S3 server."""

import os
import shutil
from pathlib import Path

import pytest

from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import ModelSpec, parse_spec
from zsfuse_ray.models.checkpoints.find import WEIGHTS, resolve
from zsfuse_ray.models.checkpoints.store import mirrored
from zsfuse_ray.models.families.pooled import Pooled


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URI of a folder with the shipped model and unrelated files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "a bucket" / "model"
    shutil.copytree(WEIGHTS / "mini", folder)
    (folder / "training").mkdir()
    (folder / "training" / "config.json").write_text("{}")
    for name in ("run.sh", ".hidden.json"):
        (folder / name).write_text("no")
    return folder.as_uri()


def cached(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "zsfuse_ray" / "models").iterdir())


def test_stored_model_equals_the_local_one(uri: str, tmp_path: Path) -> None:
    here, there = resolve("mini"), resolve(uri)
    assert (there.revision, there.licence, there.config) == (here.revision, here.licence, here.config)
    assert Pooled(uri).labels == Pooled("mini").labels
    assert len(cached(tmp_path)) == 1
    names = {path.name for path in cached(tmp_path)[0].iterdir()}
    assert names == {path.name for path in (WEIGHTS / "mini").iterdir()}


def test_stored_model_is_downloaded_again_only_if_changed(uri: str, tmp_path: Path) -> None:
    first = mirrored(uri)
    mark = first / "mark"
    mark.touch()
    mirrored.cache_clear()  # as in another process
    assert mirrored(uri + "/") == mirrored(uri) == first
    assert mark.exists()
    config = tmp_path / "a bucket" / "model" / "config.json"
    later = config.stat().st_mtime + 10
    os.utime(config, (later, later))
    assert mirrored(uri) == first  # this process continues with its version
    mirrored.cache_clear()
    assert mirrored(uri) != first
    assert len(cached(tmp_path)) == 2


def test_a_cached_copy_that_lacks_a_file_is_completed(uri: str, tmp_path: Path) -> None:
    place = mirrored(uri)
    kept = (place / "model.safetensors").stat().st_size
    for name in ("tokenizer.json", "README.md"):
        (place / name).unlink()
    mirrored.cache_clear()  # as in another process
    assert mirrored(uri) == place
    assert {path.name for path in place.iterdir()} == {path.name for path in (WEIGHTS / "mini").iterdir()}
    assert (place / "model.safetensors").stat().st_size == kept
    assert len(cached(tmp_path)) == 1


def test_single_stored_file_of_weights(uri: str) -> None:
    found = resolve(f"{uri}/model.safetensors")
    assert found.file is not None
    assert found.weights.read_bytes() == (WEIGHTS / "mini" / "model.safetensors").read_bytes()


def test_stored_model_needs_no_family(uri: str) -> None:
    assert parse_spec(uri, "specialist") == ModelSpec("pooled", uri)
    assert parse_spec(f"pooled:{uri}", "specialist") == ModelSpec("pooled", uri)


def test_interrupted_copy_leaves_nothing(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: object, **named: object) -> None:
        raise OSError("connection lost")

    with monkeypatch.context() as patch:
        patch.setattr("zsfuse_ray.models.checkpoints.store.pafs.copy_files", broken)
        with pytest.raises(InputError, match="connection lost"):
            mirrored(uri)
    assert not cached(tmp_path)
    assert resolve(uri).config


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ("file:///no/such/model", "no such checkpoint: file:///no/such/model"),
        ("gopher://x/y", "gopher://x/y: "),
        ("s3://key:hunter2@bucket/model", "pass credentials in the environment"),
        ("s3://bucket/model?secret_key=hunter2", "pass credentials in the environment"),
    ],
)
def test_missing_stored_models_are_one_line_errors(checkpoint: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        resolve(checkpoint)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
