"""The Odyssey baseline compared with its reference code, on clips of speech.

golden/odyssey.npz: MSP-UTD/MSP-Podcast_Challenge at 3f60a42 with transformers 4.46.3, torch 2.14.1: a
PreTrainedModel of WavLMModel (reduced sizes, see `shapes`), net.AttentiveStatisticsPooling and
net.EmotionRegression, assembled as in the checkpoint's own SERModel, written by save_pretrained (`config`,
`shapes`), filled with seeded_state(shapes, 0), load_state_dict(strict=True). Inputs as in utils.WavSet and
collate_fn_wav_test3. alone: `real_clips` one by one; synthetic: `synthetic_clips` likewise; windows: the
three windows of 12 s of the longest; together: those of 3, 1 and 0.3 s in one batch.
"""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.goldens import assert_rows_depend_on_their_clips_alone, golden, write_checkpoint
from tests.models.speech_clips import real_clips, synthetic_clips
from tests.models.tiny_models import speechlike
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.encoding import classify_clips
from zsfuse_ray.models.families.odyssey import LABELS, Odyssey

GOLDEN = golden("odyssey")
WINDOW = 12 * 16000
CLOSE = {"rtol": 0, "atol": 1e-4}
SAME = {"rtol": 0, "atol": 1e-5}
CLIPS = [speechlike(seconds, 16000, seed) for seed, seconds in enumerate((1.9, 0.3, 1.0, 0.02))]


def written(folder):
    return write_checkpoint(folder, str(GOLDEN["config"]), str(GOLDEN["shapes"]))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return written(tmp_path_factory.mktemp("odyssey"))


@pytest.fixture(scope="module")
def model(checkpoint):
    return Odyssey(str(checkpoint))


@pytest.fixture
def folder(tmp_path):
    return written(tmp_path)


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config |= changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


@pytest.mark.parametrize("kind", ["alone", "synthetic"])
def test_logits_equal_the_reference(model, kind, request):
    clips = synthetic_clips() if kind == "synthetic" else real_clips(request.getfixturevalue("shared"))
    got, _ = classify_clips(model, list(clips.values()), long="crop", batch_s=12)
    expected = torch.from_numpy(GOLDEN[kind])
    torch.testing.assert_close(got, expected, **CLOSE)
    assert torch.pdist(expected).min() > 0.03  # all clips differ


def test_long_clip_is_encoded_completely_unlike_the_reference(model, shared):
    clip = real_clips(shared)[30]
    shares = torch.tensor([12, 12, 6]) / 30
    expected = shares @ torch.from_numpy(GOLDEN["windows"])
    got = classify_clips(model, [clip], batch_s=12)[0][0]
    torch.testing.assert_close(got, expected, **CLOSE)
    assert (got - torch.from_numpy(GOLDEN["alone"])[-1]).abs().max() > 0.01


def test_logits_do_not_depend_on_the_batch_unlike_the_reference(model, shared):
    clips = [real_clips(shared)[seconds] for seconds in (3, 1, 0.3)]
    alone = torch.from_numpy(GOLDEN["alone"])[[2, 1, 0]]
    torch.testing.assert_close(model.classify(clips)[0], alone, **CLOSE)
    differences = (torch.from_numpy(GOLDEN["together"]) - alone).abs().amax(dim=1)
    assert differences[0] < 1e-5  # the longest has no padding
    assert differences[1:].min() > 0.01


def test_last_layer_of_the_vector_gives_the_logits(model, checkpoint):
    logits, vectors = model.classify(CLIPS)
    assert vectors.shape == (len(CLIPS), model.vector_dim)
    weights = load_file(checkpoint / "model.safetensors")
    by_hand = vectors @ weights["ser_model.out.0.weight"].T + weights["ser_model.out.0.bias"]
    torch.testing.assert_close(by_hand, logits, **SAME)
    assert vectors.std(dim=0).max() > 1e-2


def test_rows_do_not_depend_on_the_batch(model):
    assert_rows_depend_on_their_clips_alone(model, CLIPS, bfloat16=0.1)


@pytest.mark.parametrize("samples", [1, 399, 400, 719, WINDOW])
def test_every_length_is_accepted(model, samples):
    logits = model.classify([speechlike(12, 16000)[:samples]])[0]
    assert logits.shape == (1, 8)
    assert logits.isfinite().all()


def test_silence_gives_finite_logits(model):
    assert model.classify([torch.zeros(16000)])[0].isfinite().all()


def test_attributes(model):
    assert (model.kind, model.fill, model.sample_rate, model.window) == ("specialist", "none", 16000, WINDOW)
    assert model.labels == LABELS
    assert (model.same_length, model.licence) == (False, "MIT")


def test_loading_keeps_the_random_state(checkpoint):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    Odyssey(str(checkpoint))
    assert torch.rand(1) == expected


def test_statistics_are_read_from_the_config(model, folder):
    edit_config(folder, mean=0.01, std=0.05)
    clip = CLIPS[0]
    other = Odyssey(str(folder)).classify([clip])[0]
    as_if = ((clip - 0.01) / (0.05 + 1e-6)) * (model._std + 1e-6) + model._mean
    torch.testing.assert_close(other, model.classify([as_if])[0], **CLOSE)
    assert (other - model.classify([clip])[0]).abs().max() > 1e-3


def test_config_may_contain_a_product(folder):
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace("192000", "12*16000"))
    assert Odyssey(str(folder)).window == WINDOW
    (folder / "config.json").write_text(text.replace("192000", "2 * 16000"))
    assert Odyssey(str(folder)).window == 2 * 16000


def test_licence_of_the_card_has_priority(folder):
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    assert Odyssey(str(folder)).licence == "cc-by-4.0"


def test_labels_default_to_the_published_ones(folder):
    edit_config(folder, id2label=...)
    assert Odyssey(str(folder)).labels == LABELS
    edit_config(folder, id2label={str(i): f"emotion {i}" for i in range(8)})
    assert Odyssey(str(folder)).labels[7] == "emotion 7"


def test_pickled_weights_with_old_names_are_accepted(model, folder):
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    weights = load_file(folder / "model.safetensors")
    for new, old in names.items():
        stem = "ssl_model.encoder.pos_conv_embed.conv."
        weights[stem + old] = weights.pop(stem + new)
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert torch.equal(Odyssey(str(folder)).classify(CLIPS[:1])[0], model.classify(CLIPS[:1])[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "wavlm"}, "not an Odyssey model.*'wavlm', expected 'ser'"),
        ({"mean": ...}, "has no number 'mean'"),
        ({"std": "0.1"}, "has no number 'std'"),
        ({"sampling_rate": 8000}, "sampling_rate is 8000, expected 16000"),
        ({"maxlen": "long"}, "maxlen in config.json is 'long'"),
        ({"id2label": {"0": "arousal", "1": "dominance", "2": "valence"}}, "predicts attributes"),
        ({"id2label": {"0": "sad", "1": "happy"}}, "8 outputs, but 2 labels: sad, happy"),
    ],
)
def test_other_configs_are_errors(folder, changes, message):
    edit_config(folder, **changes)
    with pytest.raises(InputError, match=message) as raised:
        Odyssey(str(folder))
    assert "\n" not in str(raised.value)


def drop(weights, name):
    del weights[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: drop(w, "pool_model.attention"),
            "not a valid Odyssey checkpoint: missing pool_model.attention",
        ),
        (lambda w: drop(w, "ser_model.out.0.weight"), "missing ser_model.out.0.weight"),
        (lambda w: drop(w, "ssl_model.encoder.layers.0.attention.rel_attn_embed.weight"), "rel_attn_embed"),
        (lambda w: w.update(extra=torch.ones(1)), "unexpected extra"),
        (lambda w: w.update({"pool_model.attention": torch.ones(3, 1)}), r"\[3, 1\], expected \[64, 1\]"),
        (lambda w: w.update({"ser_model.out.0.weight": torch.ones(8)}), "expected 2 dimensions"),
        (
            lambda w: w.update(
                {"ssl_model.encoder.layers.0.attention.rel_attn_embed.weight": torch.ones(32, 7)}
            ),
            "inconsistent sizes",
        ),
    ],
)
def test_other_weights_are_errors(folder, change, message):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(InputError, match=message) as raised:
        Odyssey(str(folder))
    assert "\n" not in str(raised.value)


def test_truncated_file_is_an_error(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read as weights"):
        Odyssey(str(folder))
