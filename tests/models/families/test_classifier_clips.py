"""Every kind of stock classifier and its settings compared with transformers, on clips of 0.3 to 30 s.

golden/classifier_weighted.npz: transformers 4.46.3 (torch 2.14.1), which matches published checkpoints with a
weighted layer sum. {Hubert,WavLM,Wav2Vec2}ForSequenceClassification of reduced size (`*_shapes`) with
do_stable_layer_norm and use_weighted_layer_sum, written by its save_pretrained (`*_config`), filled with
seeded_state(shapes, 0) times FACTORS; *_alone: `real_clips` one by one, through Wav2Vec2FeatureExtractor with
return_attention_mask; *_synthetic: `synthetic_clips` likewise.
"""

import json

import pytest
import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    HubertConfig,
    HubertForSequenceClassification,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertForSequenceClassification,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    WavLMConfig,
    WavLMForSequenceClassification,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
)

from tests.models.goldens import golden, write_checkpoint
from tests.models.speech_clips import real_clips, synthetic_clips
from tests.models.tiny_models import CLASSIFIER_OF
from zsfuse_ray.models.encoding import classify_clips
from zsfuse_ray.models.families.classifier import Classifier

GOLDEN = golden("classifier_weighted")
FACTORS = {"layer_weights": 20, "classifier.weight": 5}
CLOSE = {"rtol": 0, "atol": 1e-4}
WAVEFORM_KINDS = {
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2ForSequenceClassification),
    "hubert": (HubertConfig, HubertForSequenceClassification),
    "wavlm": (WavLMConfig, WavLMForSequenceClassification),
}
WHISPER = CLASSIFIER_OF["whisper"] | {"max_source_positions": 1500}


def waveforms(kind, normalised, weighted):
    config, model = WAVEFORM_KINDS[kind]
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=normalised)
    return model(config(**CLASSIFIER_OF["layer"], use_weighted_layer_sum=weighted)), extractor


def whisper(weighted):
    config = WhisperConfig(**WHISPER | {"use_weighted_layer_sum": weighted})
    return WhisperForAudioClassification(config), WhisperFeatureExtractor()


def ast(normalised):
    config = ASTConfig(**CLASSIFIER_OF["ast"], max_length=1024, num_mel_bins=128)
    return ASTForAudioClassification(config), ASTFeatureExtractor(do_normalize=normalised)


def wav2vec2_bert(weighted):
    config = Wav2Vec2BertConfig(**CLASSIFIER_OF["bert"], use_weighted_layer_sum=weighted)
    return Wav2Vec2BertForSequenceClassification(config), SeamlessM4TFeatureExtractor()


VARIANTS = {
    "wav2vec2": lambda: waveforms("wav2vec2", True, True),
    "wav2vec2, raw": lambda: waveforms("wav2vec2", False, False),
    "hubert": lambda: waveforms("hubert", True, False),
    "hubert, raw": lambda: waveforms("hubert", False, True),
    "wavlm": lambda: waveforms("wavlm", True, True),
    "wavlm, raw": lambda: waveforms("wavlm", False, False),
    "whisper": lambda: whisper(False),
    "whisper, weighted": lambda: whisper(True),
    "ast": lambda: ast(True),
    "ast, raw": lambda: ast(False),
    "wav2vec2-bert": lambda: wav2vec2_bert(False),
    "wav2vec2-bert, weighted": lambda: wav2vec2_bert(True),
}


@pytest.fixture
def clips(request):
    """Real clips if available, else synthetic ones."""
    try:
        return list(real_clips(request.getfixturevalue("shared")).values())
    except pytest.skip.Exception:
        return list(synthetic_clips().values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_transformers(variant, clips, tmp_path):
    torch.manual_seed(0)
    model, extractor = VARIANTS[variant]()
    for weights in (value for name, value in model.named_parameters() if name == "layer_weights"):
        torch.nn.init.normal_(weights)  # equal weights would hide a wrong order
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)

    ours = Classifier(str(tmp_path))
    got, _ = classify_clips(ours, clips, long="crop", batch_s=30)
    reference = AutoModelForAudioClassification.from_pretrained(tmp_path).eval()
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path)
    with torch.inference_mode():
        expected = [
            reference(
                **extractor(clip[: ours.window].numpy(), sampling_rate=16000, return_tensors="pt")
            ).logits[0]
            for clip in clips
        ]
    torch.testing.assert_close(got, torch.stack(expected), **CLOSE)
    assert torch.pdist(torch.stack(expected)).min() > 0.01  # all clips differ


@pytest.mark.parametrize("kind", WAVEFORM_KINDS)
@pytest.mark.parametrize("clips_of", ["alone", "synthetic"])
def test_weighted_layers_match_published_checkpoints(kind, clips_of, tmp_path, request):
    """transformers 5.16 and later use the last state before its normalisation: see the class."""
    clips = synthetic_clips() if clips_of == "synthetic" else real_clips(request.getfixturevalue("shared"))
    write_checkpoint(tmp_path, str(GOLDEN[f"{kind}_config"]), str(GOLDEN[f"{kind}_shapes"]), FACTORS)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(tmp_path)
    model = Classifier(str(tmp_path))
    got, _ = classify_clips(model, list(clips.values()), batch_s=30)
    expected = torch.from_numpy(GOLDEN[f"{kind}_{clips_of}"])
    torch.testing.assert_close(got, expected, **CLOSE)
    assert torch.pdist(expected).min() > 0.05

    # a checkpoint written by a later version uses that version's behaviour
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"transformers_version": "5.24.0"}))
    clip = [clips[1]]
    assert (Classifier(str(tmp_path)).classify(clip)[0] - model.classify(clip)[0]).abs().max() > 0.01
