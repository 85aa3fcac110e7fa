"""Classifiers with attention pooling, compared with transformers' mean, and with attention in loops."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForAudioClassification

from tests.models.goldens import one_at_a_time
from tests.models.tiny_models import FAMILIES, LABELS, speechlike
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.families.classifier import Classifier
from zsfuse_ray.models.networks.attentive import ATTENTIVE

CLIPS = [speechlike(seconds, 16000, seed) for seed, seconds in enumerate((1.9, 0.3, 1.0, 0.0625))]
CLOSE = {"rtol": 0, "atol": 1e-5}


def write(folder: Path, family: str, weighted: bool = True) -> Any:
    """Write a tiny classifier with attention pooling and distinct layer weights; returns it."""
    torch.manual_seed(0)
    plain, extractor = FAMILIES[family]()
    plain.config.use_weighted_layer_sum, plain.config.frame_pooling = weighted, "attention"
    model = ATTENTIVE[plain.config.model_type](plain.config).eval()
    with torch.no_grad():
        model.pooling.score.weight *= 20  # far from the mean
        if weighted:
            model.layer_weights.copy_(torch.tensor([0.1, -1.0, 2.0]))
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return model


@pytest.fixture(params=["wavlm", "hubert", "wav2vec2", "wav2vec2-group"])
def family(request) -> str:
    return request.param


@pytest.mark.parametrize("weighted", [True, False])
def test_equal_scores_give_the_mean_of_transformers(family, weighted, tmp_path):
    model = write(tmp_path, family, weighted)
    with torch.no_grad():
        model.pooling.score.weight.zero_()
    model.save_pretrained(tmp_path)
    got = one_at_a_time(ours := Classifier(str(tmp_path)), CLIPS)[0]
    reference = AutoModelForAudioClassification.from_pretrained(tmp_path).eval()  # ignores the pooling
    with torch.inference_mode():
        expected = [reference(**ours._features([clip])).logits for clip in CLIPS]
        torch.testing.assert_close(got, torch.cat(expected), **CLOSE)
        if not ours.same_length:
            together = reference(**ours._features(CLIPS)).logits
            torch.testing.assert_close(ours.classify(CLIPS)[0], together, **CLOSE)


def attention(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The vector of one clip, frame by frame, and the mean that it would be without attention."""
    hidden = model.base_model(**inputs, output_hidden_states=True).hidden_states
    shares = [math.exp(weight) / sum(map(math.exp, model.layer_weights)) for weight in model.layer_weights]
    frames, scores = [], []
    for t in range(hidden[0].shape[1]):
        frame = sum(share * layer[0, t] for share, layer in zip(shares, hidden, strict=True))
        frames.append(model.projector(frame))
        scores.append(math.exp(model.pooling.score(model.pooling.hidden(frames[-1]).tanh())))
    weighted = sum(score * frame for score, frame in zip(scores, frames, strict=True)) / sum(scores)
    return weighted, sum(frames) / len(frames)


def test_vectors_equal_attention_computed_by_loops(family, tmp_path):
    model = write(tmp_path, family)
    ours = Classifier(str(tmp_path))
    logits, vectors = one_at_a_time(ours, CLIPS)
    with torch.inference_mode():
        found = [attention(model, ours._features([clip])) for clip in CLIPS]
        torch.testing.assert_close(model.classifier(vectors), logits, **CLOSE)
    expected, means = (torch.stack(part) for part in zip(*found, strict=True))
    torch.testing.assert_close(vectors, expected, rtol=0, atol=5e-5)
    assert (expected - means).abs().max() > 1e-2
    assert torch.cdist(expected, expected)[0, 1:].min() > 1e-2  # clips do differ


def test_rows_do_not_depend_on_the_batch(family, tmp_path):
    write(tmp_path, family)
    model = Classifier(str(tmp_path))
    clips = [CLIPS[0], CLIPS[0].flip(0)] if model.same_length else CLIPS
    for rows, alone in zip(model.classify(clips), one_at_a_time(model, clips), strict=True):
        torch.testing.assert_close(rows, alone, rtol=0, atol=5e-5)


def test_attributes_and_bfloat16(family, tmp_path):
    write(tmp_path, family)
    model = Classifier(str(tmp_path))
    half = Classifier(str(tmp_path), dtype=torch.bfloat16)
    assert (model.labels, model.vector_dim, model.same_length) == (LABELS, 16, family == "wav2vec2-group")
    for got, expected in zip(half.classify(CLIPS[:1]), model.classify(CLIPS[:1]), strict=True):
        assert got.dtype == torch.float32
        assert torch.cosine_similarity(got, expected).min() > 0.995


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize("pooling", ["median", 3, ["attention"]])
def test_unknown_pooling_is_an_error(pooling, tmp_path):
    write(tmp_path, "wavlm")
    edit(tmp_path, frame_pooling=pooling)
    with pytest.raises(InputError, match=r"no wavlm with frame_pooling .* exists") as error:
        Classifier(str(tmp_path))
    assert "\n" not in str(error.value)


def test_attention_of_another_encoder_is_an_error(tmp_path):
    for part in FAMILIES["whisper"]():
        part.save_pretrained(tmp_path)
    edit(tmp_path, frame_pooling="attention")
    with pytest.raises(InputError, match="no whisper with frame_pooling 'attention' exists"):
        Classifier(str(tmp_path))


def test_missing_weights_of_the_pooling_are_an_error(tmp_path):
    write(tmp_path, "hubert")
    weights = load_file(tmp_path / "model.safetensors")
    del weights["pooling.score.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"missing pooling\.score\.weight"):
        Classifier(str(tmp_path))
