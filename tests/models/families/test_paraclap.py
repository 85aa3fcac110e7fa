"""ParaCLAP and ParaSpeechCLAP compared with their own code.

golden/paraclap.npz and golden/paraspeechclap.npz: outputs of KeiKinn/ParaCLAP (ddeca94) and
ajd12342/paraspeechclap (4767eea) with torch 2.14.1 and transformers 4.57.1: `CLAP(speech, text, 48)` of
folders written by `save_pretrained` from a Wav2Vec2Model (or WavLMModel) and a BertModel (or XLMRobertaModel)
of the sizes below, with the weights of its state_dict replaced by seeded_state(shapes, 0), in eval mode.
`shapes`: of that state_dict. `audio` (7, 48): real_clips one at a time, normalised; directly through
audio_branch and audio_projection (ParaCLAP), or through Wav2Vec2FeatureExtractor(do_normalize=True) and
get_audio_embedding, as in scripts/inference.py (ParaSpeechCLAP). `thrice`: the clip of 1 s three times in a
row. `text` (5, 48): TEXTS, tokenized together with padding=True, truncation=True by the tokenizers of
tiny_tokenizers. `scores` (7, 5): compute_similarity of utils.py; the softmax of the cosines in
scripts/inference.py. `padded`: ParaCLAP of the clip of 1 s followed by 2 s of zeros. `batched` (4, 48):
ParaSpeechCLAP of the first four clips by its collate_fn and its mask.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import softmax

from tests.models.seeded_weights import seeded_state
from tests.models.speech_clips import SECONDS, real_clips
from tests.models.tiny_models import speechlike
from tests.models.tiny_tokenizers import sentence_pieces, word_pieces
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.amplify import effects
from zsfuse_ray.models.catalog import load, parse_spec
from zsfuse_ray.models.encoding import embed_clips
from zsfuse_ray.models.families.dual import Dual
from zsfuse_ray.models.families.paraclap import Paraclap
from zsfuse_ray.models.families.paraspeechclap import ParaSpeechClap

CLASSES = {"paraclap": Paraclap, "paraspeechclap": ParaSpeechClap}
TOKENIZERS = {"paraclap": word_pieces, "paraspeechclap": sentence_pieces}
TEXTS = [
    "this person is feeling happy.",
    "sad",
    "Wütend und traurig, style 9",
    "this person is feeling sad. " * 90,
    "",
]
CLOSE = {"rtol": 0, "atol": 1e-5}
ABOUT_BF16 = 0.01  # tolerance between batches in bfloat16, for embeddings of length 1


class Reference:
    """A family's golden arrays, and a checkpoint in its authors' format with the same weights."""

    def __init__(self, family: str, folder: Path):
        self.family, self.folder = family, folder
        with np.load(Path(__file__).parents[1] / "golden" / f"{family}.npz") as golden:
            self.arrays = {name: torch.from_numpy(golden[name]) for name in golden.files if name != "shapes"}
            self.weights = seeded_state(json.loads(str(golden["shapes"])), 0)
        self.write(self.weights)
        TOKENIZERS[family]().save_pretrained(folder)

    def write(self, weights, folder: Path | None = None) -> Path:
        """Write a file of weights and the tokenizer beside it; return the file."""
        folder = folder or self.folder
        folder.mkdir(exist_ok=True)
        for file in self.folder.glob("tokenizer*"):
            if folder != self.folder:
                shutil.copy(file, folder)
        torch.save(weights, folder / "best.pth.tar")
        return folder / "best.pth.tar"

    def model(self, file: Path | None = None, **options):
        return CLASSES[self.family](str(file or self.folder / "best.pth.tar"), **options)


@pytest.fixture(scope="module", params=CLASSES)
def reference(request, tmp_path_factory) -> Reference:
    return Reference(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def model(reference):
    return reference.model()


@pytest.fixture(scope="module")
def clips(shared) -> list[torch.Tensor]:
    return list(real_clips(shared).values())


@pytest.fixture(scope="module")
def alone(model, clips) -> torch.Tensor:
    """Our embeddings of the clips, one at a time."""
    return torch.cat([model.embed_audio([clip]) for clip in clips])


# Restrict a test to one family.
of_paraclap = pytest.mark.parametrize("reference", ["paraclap"], indirect=True)
of_paraspeechclap = pytest.mark.parametrize("reference", ["paraspeechclap"], indirect=True)


@pytest.mark.parametrize("index", range(len(SECONDS)), ids=map(str, SECONDS))
def test_audio_embeddings_equal_the_reference(alone, reference, index):
    torch.testing.assert_close(alone[index], reference.arrays["audio"][index], **CLOSE)


def test_reference_embeddings_differ(reference):
    for name in ("audio", "text"):
        apart = torch.cdist(reference.arrays[name], reference.arrays[name], p=torch.inf)
        assert apart.fill_diagonal_(1).min() > 5e-3  # far above the tolerance of the comparison


def test_text_embeddings_equal_the_reference_and_truncation_is_reported(model, reference):
    embeddings, truncated = model.embed_text(TEXTS)
    torch.testing.assert_close(embeddings, reference.arrays["text"], **CLOSE)
    assert truncated == [False, False, False, True, False]
    assert model.max_tokens == 512


def test_scores_equal_the_reference(model, alone, reference):
    scores = model.scale * alone @ model.embed_text(TEXTS)[0].T
    if reference.family == "paraspeechclap":
        scores = softmax(scores, dim=1)
    torch.testing.assert_close(scores, reference.arrays["scores"], **CLOSE)


def test_embeddings_do_not_depend_on_batch_or_random_state(model, clips, alone):
    assert model.same_length is False  # any clips may share a batch
    torch.manual_seed(7)
    torch.testing.assert_close(model.embed_audio(clips[:5]), alone[:5], **CLOSE)
    torch.testing.assert_close(model.embed_audio(clips[4::-1]), alone[:5].flip(0), **CLOSE)
    torch.testing.assert_close(model.embed_audio([clips[6], clips[0]]), alone[[6, 0]], **CLOSE)
    assert torch.equal(model.embed_audio(clips[:2]), model.embed_audio(clips[:2]))


def test_bfloat16_is_close_and_does_not_depend_on_the_batch(model, reference, clips, alone):
    half = reference.model(dtype=torch.bfloat16)
    singly = torch.cat([half.embed_audio([clip]) for clip in clips[:4]])
    torch.testing.assert_close(half.embed_audio(clips[:4]), singly, rtol=0, atol=ABOUT_BF16)
    assert (singly * alone[:4]).sum(dim=1).min() > 0.999
    assert (half.embed_text(TEXTS)[0] * model.embed_text(TEXTS)[0]).sum(dim=1).min() > 0.999


@of_paraclap
def test_padding_is_not_encoded_as_silence_unlike_paraclap(model, reference, clips):
    expected = reference.arrays["audio"][1]
    assert (reference.arrays["padded"] - expected).abs().max() > 0.01
    torch.testing.assert_close(model.embed_audio(clips[1:3])[0], expected, **CLOSE)
    silence = torch.cat([clips[1], torch.zeros(32000)])  # silence in the clip itself is encoded
    torch.testing.assert_close(model.embed_audio([silence])[0], reference.arrays["padded"], **CLOSE)


@of_paraspeechclap
def test_batch_equals_the_masked_batch_of_paraspeechclap(model, reference, clips):
    torch.testing.assert_close(model.embed_audio(clips[:4]), reference.arrays["batched"], **CLOSE)


def test_only_paraclap_depends_on_loudness(model, reference, clips):
    quiet, loud = model.embed_audio([clips[2] * 0.1]), model.embed_audio([clips[2]])
    assert torch.allclose(quiet, loud, atol=1e-3) is (reference.family == "paraspeechclap")


def test_every_repeat_is_encoded(model, reference, clips):
    lengths = [len(clip) for clip in clips[:2]]
    assert (model.window, model.fill) == (None, "none")
    assert effects(lengths, (1, 3), None, "none")[3] == {"same": 0, "fewer": 0, "cropped": 0, "more": 2}
    embeddings, inputs = embed_clips(model, clips[:2], (1, 3), batch_s=20)
    assert inputs == 4
    torch.testing.assert_close(embeddings[1, 1], reference.arrays["thrice"], **CLOSE)
    assert (embeddings[1, 1] - embeddings[1, 0]).abs().max() > 1e-3


def test_clip_too_short_for_the_first_layers_is_zero_padded(model):
    clip = speechlike(0.02, 16000)
    expected = model.embed_audio([torch.cat([clip, torch.zeros(400 - len(clip))])])
    assert expected.isfinite().all()
    torch.testing.assert_close(model.embed_audio([clip]), expected, **CLOSE)


def test_older_weight_names_are_accepted(model, reference, tmp_path):
    """Names of torch before 2.1, of transformers before 4.31 and of data-parallel training."""
    old = {}
    for name, value in reference.weights.items():
        name = name.replace("parametrizations.weight.original0", "weight_g")
        old["module." + name.replace("parametrizations.weight.original1", "weight_v")] = value
    old["module.text_branch.base.embeddings.position_ids"] = torch.arange(512)[None]
    assert sum("weight_" in name for name in old) == 2
    again = reference.model(reference.write(old, tmp_path / "old"))
    clip = speechlike(1.0, 16000)
    assert torch.equal(again.embed_audio([clip]), model.embed_audio([clip]))


def test_attributes(model, reference):
    spec = parse_spec(f"{reference.family}:{reference.folder / 'best.pth.tar'}", "alm")
    again = load(spec)
    assert type(again) is CLASSES[reference.family]
    assert (model.kind, model.labels, model.sample_rate, model.dim) == ("alm", None, 16000, 48)
    assert len(model.revision) == 12
    assert model.licence == {"paraclap": "none stated (its audio encoder: CC-BY-NC-SA-4.0)"}.get(
        reference.family, "MIT"
    )


def test_scale_is_learned_in_paraclap_and_1_in_paraspeechclap(model, reference):
    name = {"paraclap": "logit_scale"}.get(reference.family, "log_logit_scale")
    assert model.logit_scale.item() == reference.weights[name].item() != 0
    learned = model.logit_scale.exp().item()
    assert model.scale == (learned if reference.family == "paraclap" else 1.0)


@of_paraspeechclap
def test_scale_with_another_name_keeps_its_initial_value(reference, tmp_path):
    weights = dict(reference.weights)
    weights["logit_scale"] = weights.pop("log_logit_scale")
    model = reference.model(reference.write(weights, tmp_path / "renamed"))
    assert model.logit_scale.exp().item() == pytest.approx(1 / 0.07)


def test_licence_beside_the_weights_is_read(reference, tmp_path):
    file = reference.write(reference.weights, tmp_path / "licensed")
    (file.parent / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    assert reference.model(file).licence == "cc-by-4.0"


def test_saved_model_is_a_dual_encoder(model, tmp_path):
    model.save(tmp_path)
    again = load(parse_spec(str(tmp_path), "alm"))
    assert type(again) is Dual
    clip = speechlike(1.0, 16000)
    torch.testing.assert_close(again.embed_audio([clip, clip[:9000]]), model.embed_audio([clip, clip[:9000]]))
    torch.testing.assert_close(again.embed_text(TEXTS)[0], model.embed_text(TEXTS)[0])
    assert again.scale == pytest.approx(model.logit_scale.exp().item())


_WORDS = "text_branch.base.embeddings.word_embeddings.weight"


def _without(key):
    return lambda weights: {name: value for name, value in weights.items() if key not in name}


def _with(key, *shape):
    return lambda weights: {**weights, key: torch.ones(shape)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: {"logit_scale_a": torch.tensor(1.0)}, "missing audio_projection.linear1.weight"),
        (_without("conv_layers"), "missing audio_branch.base.feature_extractor.conv_layers.0.conv.weight"),
        (_without("layers.0.feed"), "missing audio_branch.base.encoder.layers.0.feed_forward"),
        (_without("embeddings.word"), "missing text_branch.base.embeddings.word_embeddings.weight"),
        (_without("text_projection.linear2"), r"missing text_projection.linear2.weight \(1 missing"),
        (_with("decoder.weight", 2), "unexpected decoder.weight"),
        (_with("text_projection.linear2.weight", 48, 40), r"has shape \[48, 40\], expected \[48, 48\]"),
        (_with("audio_projection.linear1.weight", 48), "expected 2 dimensions"),
        (_with(_WORDS, 97, 100), "100 channels, expected a multiple of 64"),
        (_with(_WORDS, 40, 192), "its tokenizer has [0-9]+ tokens, expected at most 40 as"),
        (lambda weights: {"model": list(weights)}, "contains no named weights"),
    ],
)
def test_other_weights_are_one_line_errors(reference, tmp_path, change, message):
    file = reference.write(change(reference.weights), tmp_path / "other")
    with pytest.raises(InputError, match=message) as error:
        reference.model(file)
    assert "\n" not in str(error.value)


def test_weights_of_the_other_family_are_one_line_errors(reference, tmp_path):
    other = next(cls for family, cls in CLASSES.items() if family != reference.family)
    with pytest.raises(InputError, match=f"not a valid {other.family} checkpoint") as error:
        other(str(reference.folder / "best.pth.tar"))
    assert "\n" not in str(error.value)


def test_truncated_file_and_folder_are_one_line_errors(reference, tmp_path):
    file = reference.write(reference.weights, tmp_path / "cut")
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(InputError, match=r"best.pth.tar cannot be read as weights"):
        reference.model(file)
    (tmp_path / "config.json").write_text('{"model_type": "dual"}')
    with pytest.raises(InputError, match=r"model_type 'dual'.*expected a file of weights, such as"):
        reference.model(tmp_path)
