"""Every model class compared with its own extractor and model, one clip at a time."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

from tests.models.goldens import one_at_a_time
from tests.models.tiny_models import LABELS, speechlike
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.families.classifier import Classifier
from zsfuse_ray.models.untrained import untrained_specialist

CLIPS = [speechlike(seconds, 16000, seed) for seed, seconds in enumerate((1.9, 0.3, 1.0, 0.75, 0.0625))]
CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def model(family_folder):
    return Classifier(str(family_folder))


def test_logits_equal_transformers(model, family_folder):
    extractor = AutoFeatureExtractor.from_pretrained(family_folder)
    reference = AutoModelForAudioClassification.from_pretrained(family_folder).eval()
    with torch.inference_mode():
        expected = [
            reference(**extractor(clip.numpy(), sampling_rate=16000, return_tensors="pt")).logits[0]
            for clip in CLIPS
        ]
    got = torch.cat([model.classify([clip])[0] for clip in CLIPS])
    torch.testing.assert_close(got, torch.stack(expected), rtol=0, atol=1e-4)
    assert got.std(dim=0).max() > 1e-2  # clips do differ


def test_rows_do_not_depend_on_the_batch(model):
    clips = [CLIPS[0], CLIPS[0].flip(0), -0.1 * CLIPS[0]] if model.same_length else CLIPS
    alone, together = one_at_a_time(model, clips), model.classify(clips)
    for rows, backwards, expected, atol in zip(
        together, model.classify(clips[::-1]), alone, (1e-5, 5e-5), strict=True
    ):
        torch.testing.assert_close(rows, expected, rtol=0, atol=atol)
        torch.testing.assert_close(backwards, expected.flip(0), rtol=0, atol=atol)


def test_vector_is_the_input_of_the_classification_head(model, family_folder):
    extractor = AutoFeatureExtractor.from_pretrained(family_folder)
    reference = AutoModelForAudioClassification.from_pretrained(family_folder).eval()
    read = []
    reference.classifier.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    with torch.inference_mode():
        for clip in CLIPS:
            reference(**extractor(clip.numpy(), sampling_rate=16000, return_tensors="pt"))
        logits, vectors = one_at_a_time(model, CLIPS)
        torch.testing.assert_close(vectors, torch.cat(read), rtol=0, atol=1e-4)
        torch.testing.assert_close(reference.classifier(vectors), logits, **CLOSE)
    assert vectors.shape == (len(CLIPS), model.vector_dim)
    assert vectors.dtype == torch.float32
    assert vectors.std(dim=0).max() > 1e-2


def test_same_length_only_if_padding_changes_the_result(model, family_folder):
    assert model.same_length == (family_folder.name == "wav2vec2-group")
    if model.same_length:
        padded = torch.nn.functional.pad(CLIPS[1], (0, 16000))
        assert (model.classify([CLIPS[1]])[0] - model.classify([padded])[0]).abs().max() > 1e-3


def test_attributes(model, family_folder):
    assert (model.kind, model.fill, model.sample_rate) == ("specialist", "none", 16000)
    assert model.labels == LABELS
    assert model.vector_dim == (32 if family_folder.name == "ast" else 16)
    windows = {"whisper": 32000, "ast": 199 * 160 + 400}
    assert model.window == windows.get(family_folder.name)


@pytest.mark.parametrize("samples", [1, 100, 399, 400, 800])
def test_shortest_clips_are_accepted(model, samples):
    logits = model.classify([speechlike(1, 16000)[:samples]])[0]
    assert logits.shape == (1, 3)
    assert logits.isfinite().all()


def test_silence_gives_finite_logits(model):
    assert model.classify([torch.zeros(16000)])[0].isfinite().all()


def test_logits_are_deterministic(model, family_folder):
    assert torch.equal(model.classify(CLIPS[:1])[0], Classifier(str(family_folder)).classify(CLIPS[:1])[0])


def test_bfloat16_is_close(model):
    half = Classifier.__new__(Classifier)
    half.__dict__ = {**model.__dict__, "dtype": torch.bfloat16}
    got = half.classify(CLIPS[:1])[0]
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, model.classify(CLIPS[:1])[0], rtol=0.1, atol=0.3)


@pytest.fixture
def folder(tmp_path):
    untrained_specialist(tmp_path, LABELS)
    return tmp_path


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "clap"}, "not an audio classifier.*'clap'"),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, "no label names"),
        ({"id2label": None}, "no label names"),
        ({"id2label": {"a": "sad", "b": "happy"}}, "must be numbers"),
        ({"problem_type": "regression"}, "trained for regression"),
        ({"problem_type": "multi_label_classification"}, "one label per clip"),
    ],
)
def test_other_checkpoints_are_errors(folder, changes, message):
    edit_config(folder, **changes)
    with pytest.raises(InputError, match=message):
        Classifier(str(folder))


def test_labels_are_ordered_by_index(folder):
    edit_config(folder, id2label={"2": "sad", "0": "neutral", "1": "happy"})
    assert Classifier(str(folder)).labels == LABELS


def test_missing_weights_are_an_error(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"missing classifier\.weight"):
        Classifier(str(folder))


def test_unknown_feature_extractor_is_an_error(folder, alm_folder):
    shutil.copy(alm_folder / "preprocessor_config.json", folder)
    with pytest.raises(InputError, match="ClapFeatureExtractor"):
        Classifier(str(folder))
