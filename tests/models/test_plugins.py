"""Third-party classes in a separate package."""

import sys
import textwrap

import pytest
import torch

from zsfuse_ray.errors import InputError
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.catalog import ModelSpec, load, named_in_data, parse_spec, revision_of, split_name
from zsfuse_ray.models.encoding import classify_clips, embed_clips
from zsfuse_ray.models.untrained import untrained_specialist

MODULE = '''
import torch
from zsfuse_ray.models.about import About

class Model:
    about = About(rate="16 kHz", window="none", dim="2", licence="theirs", checkpoints=())
    sample_rate, window, fill, same_length, licence = 16_000, None, "none", False, "theirs"
    revision = None

    def __init__(self, checkpoint, device="cpu", dtype=torch.float32):
        self.checkpoint, self.device, self.dtype = checkpoint, device, dtype

class Loudness(Model):
    """Quiet or loud."""
    kind = "specialist"
    labels, vector_dim = ("quiet", "loud"), 1
    revision = "7"

    def classify(self, clips):
        vectors = torch.stack([clip.abs().mean() for clip in clips])[:, None]
        return torch.cat([-vectors, vectors], dim=1), vectors

class Pair(Model):
    kind = "alm"
    dim, scale = 2, 10.0

    def embed_audio(self, clips):
        return torch.tensor([[1.0, 0.0]] * len(clips))

    def embed_text(self, texts):
        return torch.tensor([[0.0, 1.0]] * len(texts)), [False] * len(texts)

class Silent(Model):
    kind = "specialist"

class Unlabelled(Model):
    kind = "specialist"
    classify = None

class Kindless(Model):
    kind = "classifier"

class Argumentless(Loudness):
    def __init__(self):
        pass

loud = Loudness("")
'''


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """Name of an importable module, removed from sys.modules afterwards."""
    package = f"theirs_{tmp_path.name}".replace("-", "_")
    (tmp_path / package / "models").mkdir(parents=True)
    (tmp_path / package / "models" / "own.py").write_text(textwrap.dedent(MODULE))
    (tmp_path / package / "broken.py").write_text("raise RuntimeError('out of luck\\nand more')")
    monkeypatch.syspath_prepend(tmp_path)
    yield f"{package}.models.own"
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a.b:C", ("a.b:C", "")),
        ("a_1.b.c:Class:x/y", ("a_1.b.c:Class", "x/y")),
        ("a.b:C:s3://bucket/x", ("a.b:C", "s3://bucket/x")),
        ("a.b:C:D:\\x", ("a.b:C", "D:\\x")),
        ("a:C", ("a", "C")),  # a family: a class is in a module with a dot
        ("./a.b:C", ("", "./a.b:C")),
        ("a.b:C/d", ("", "a.b:C/d")),
        ("a.1:C", ("", "a.1:C")),
        ("s3://a.b:C", ("", "s3://a.b:C")),
        ("clap:a.b:C", ("clap", "a.b:C")),
    ],
)
def test_split_name(name, parts):
    assert split_name(name) == parts
    if parts[0]:
        assert split_name(str(ModelSpec(*parts))) == parts


def test_third_party_specialist(theirs):
    spec = parse_spec(f"{theirs}:Loudness", "specialist")
    assert str(spec) == f"{theirs}:Loudness"
    assert revision_of(spec) == "7"
    model = load(spec, "cpu", torch.bfloat16)
    assert (model.checkpoint, model.device, model.dtype) == ("", "cpu", torch.bfloat16)
    assert not isinstance(model, AudioLanguageModel)
    logits, vectors = classify_clips(model, [torch.full((9,), 0.5), torch.zeros(3)], batch_s=1)
    assert logits.tolist() == [[-0.5, 0.5], [0, 0]]
    assert vectors.tolist() == [[0.5], [0]]


def test_third_party_alm(theirs):
    spec = parse_spec(f"{theirs}:Pair", "alm")
    assert revision_of(spec) is None
    model = load(spec)
    assert isinstance(model, AudioLanguageModel)  # although it does not inherit from it
    embeddings, n_inputs = embed_clips(model, [torch.ones(5)], [1, 2], batch_s=1)
    assert embeddings.tolist() == [[[1, 0], [1, 0]]]
    assert n_inputs == 2


def test_class_with_a_checkpoint(theirs, tmp_path):
    untrained_specialist(tmp_path / "checkpoint")
    spec = parse_spec(f"{theirs}:Loudness:{tmp_path}/checkpoint", "specialist")
    assert str(spec) == f"{theirs}:Loudness:{tmp_path}/checkpoint"
    assert revision_of(spec) == revision_of(parse_spec(f"{tmp_path}/checkpoint", "specialist"))
    assert load(spec).checkpoint == f"{tmp_path}/checkpoint"


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        (
            "theirs_absent.module:Loudness",
            "specialist",
            "cannot import theirs_absent.module: No module named",
        ),
        ("{package}.broken:Loudness", "specialist", "cannot import .*broken: out of luck; install it"),
        ("{own}:Loudnes", "specialist", r'has no class Loudnes \(did you mean "Loudness"\?\)'),
        ("{own}:loud", "specialist", "has no class loud "),
        ("{own}:Loudness", "alm", "is of kind specialist, expected alm, such as clap:"),
        ("{own}:Kindless", "specialist", 'kind is \'classifier\', expected "alm" or "specialist"'),
        ("{own}:Silent", "specialist", "Silent is not a model of kind specialist: missing classify$"),
        (
            "{own}:Argumentless",
            "specialist",
            r"cannot be called as Class\(checkpoint, device, dtype\): too many",
        ),
        ("{own}:Loudness:", "specialist", "has no checkpoint; expected .*Loudness:FOLDER"),
        ("{own}:Loudness:untrained", "specialist", "no random weights for this family"),
        (
            "zsfuse_ray.models.alm:AudioLanguageModel",
            "alm",
            "missing about, audio, features, put_together, text",
        ),
    ],
)
def test_unusable_classes_are_one_line_errors(theirs, name, kind, message):
    name = name.format(own=theirs, package=theirs.partition(".")[0])
    with pytest.raises(InputError, match=message) as raised:
        parse_spec(name, kind)
    assert "\n" not in str(raised.value)


def test_missing_object_attributes_are_errors_on_loading(theirs):
    spec = parse_spec(f"{theirs}:Unlabelled", "specialist")
    with pytest.raises(
        InputError, match="Unlabelled is not a model of kind specialist: missing labels, vector_dim"
    ):
        load(spec)


def test_config_of_a_checkpoint_cannot_name_code(theirs, tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(f'{{"model_type": "{theirs}:Loudness"}}')
    assert parse_spec(str(folder), "specialist") == ModelSpec("classifier", str(folder))
    assert theirs not in sys.modules


def test_data_files_cannot_name_code():
    assert named_in_data("clap:x", "a table", "--alm") == "clap:x"
    for name in ("a.b:C", "a.b:C:x"):
        with pytest.raises(
            InputError,
            match=f"a table was created with {name}, third-party code; .*trust it, pass --alm {name}$",
        ):
            named_in_data(name, "a table", "--alm")
