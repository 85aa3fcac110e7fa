import json
import multiprocessing
import shutil
import tempfile

import pytest
import torch

from zsfuse_ray.errors import InputError
from zsfuse_ray.models import untrained
from zsfuse_ray.models.about import listed
from zsfuse_ray.models.catalog import MODELS, ModelSpec, load, parse_spec
from zsfuse_ray.models.untrained import untrained_specialist


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("laion/clap-htsat-unfused", "alm", ModelSpec("clap", "laion/clap-htsat-unfused")),
        ("clap:laion/clap-htsat-unfused", "alm", ModelSpec("clap", "laion/clap-htsat-unfused")),
        ("classifier:untrained", "specialist", ModelSpec("classifier", "untrained")),
        ("untrained", "alm", ModelSpec("clap", "untrained")),
        ("untrained", "specialist", ModelSpec("classifier", "untrained")),
        ("clap:C:\\models\\x", "alm", ModelSpec("clap", "C:\\models\\x")),
        ("C:\\models\\x", "alm", ModelSpec("clap", "C:\\models\\x")),
        ("C:/models/x", "alm", ModelSpec("clap", "C:/models/x")),
        ("/runs/12:30/best", "specialist", ModelSpec("classifier", "/runs/12:30/best")),
        ("./a:b", "alm", ModelSpec("clap", "./a:b")),
        ("clap:/runs/12:30", "alm", ModelSpec("clap", "/runs/12:30")),
    ],
)
def test_parse_spec(text, kind, expected):
    assert parse_spec(text, kind) == expected


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("claap:x", "alm", 'unknown model family "claap".*did you mean "clap"'),
        ("zzz:x", "alm", "one of clap, classifier"),
        ("clap:x", "specialist", "of kind alm, expected specialist, such as classifier:"),
        ("classifier:x", "alm", "of kind specialist, expected alm"),
        ("clap:", "alm", "has no checkpoint"),
        ("", "alm", "has no checkpoint"),
        ("msclap:untrained", "alm", "no random weights for this family; use one of clap:untrained"),
    ],
)
def test_invalid_model_names_are_errors(text, kind, message):
    with pytest.raises(InputError, match=message):
        parse_spec(text, kind)


@pytest.mark.parametrize("family", MODELS)
def test_model_spec_str_round_trip(family):
    assert parse_spec(f"{family}:a/b", MODELS[family].kind) == ModelSpec(family, "a/b")
    assert str(ModelSpec(family, "a/b")) == f"{family}:a/b"


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_untrained_models_are_deterministic(empty_cache):
    alm, specialist = (load(ModelSpec(family, "untrained")) for family in ("clap", "classifier"))
    assert alm.licence == specialist.licence == "apache-2.0"
    assert specialist.labels == ("angry", "happy", "neutral", "sad")
    (cache,) = empty_cache.iterdir()
    first = {folder.name: (folder / "model.safetensors").read_bytes() for folder in cache.iterdir()}
    for folder in cache.iterdir():
        assert sum(file.stat().st_size for file in folder.iterdir()) < 5e6
        folder.rename(folder.with_name(f"old-{folder.name}"))
    again = load(ModelSpec("clap", "untrained"))
    assert again.revision == alm.revision
    rewritten = next(cache.glob("untrained-clap-*"))
    assert (rewritten / "model.safetensors").read_bytes() == first[rewritten.name]


def test_writing_an_untrained_model_keeps_the_random_state(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    untrained_specialist(tmp_path)
    assert torch.rand(1) == expected


def _write(folder: str, barrier) -> None:
    tempfile.tempdir = folder
    barrier.wait()
    untrained.untrained("classifier")


def test_concurrent_processes_write_one_untrained_model(empty_cache):
    processes = multiprocessing.get_context("fork")
    barrier = processes.Barrier(4)
    workers = [processes.Process(target=_write, args=(str(empty_cache), barrier)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=30)
    assert [worker.exitcode for worker in workers] == [0] * 4
    (cache,) = empty_cache.iterdir()
    assert [folder.name.startswith("untrained-classifier-") for folder in cache.iterdir()] == [True]


def test_family_kinds_match_their_classes():
    for family in MODELS.values():
        assert family.kind == family.model_class.kind


def test_listed_has_every_family():
    text = listed(MODELS)
    for name, family in MODELS.items():
        (line,) = [line for line in text.splitlines() if line.split("  ")[0] == name]
        about = family.about
        for fact in (family.kind, about.rate, about.window, about.dim, about.licence):
            assert fact in line
        assert about.note in text
        for checkpoint in about.checkpoints:
            assert f"    {name}:{checkpoint}" in text
            if "FOLDER" not in checkpoint:
                assert parse_spec(f"{name}:{checkpoint}", family.kind) == ModelSpec(name, checkpoint)


@pytest.mark.parametrize("rate", [0, -16000, 1, 2.5])
def test_a_model_without_a_possible_sampling_rate_is_refused(tmp_path, rate):
    folder = shutil.copytree(untrained.untrained("classifier"), tmp_path / "model")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sampling_rate": rate}))
    with pytest.raises(InputError, match=f"sampling rate is {rate}"):
        load(ModelSpec("classifier", str(folder)))
