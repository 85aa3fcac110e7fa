"""Specialist and ALM on one trunk: equal to the stock encoder, independent of the batch, encoded once."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize
from transformers import WhisperFeatureExtractor

from tests.models.tiny_pooled import write_pooled
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import load, parse_spec
from zsfuse_ray.models.encoding import classify_clips, embed_clips
from zsfuse_ray.models.families.pooled import Pooled, PooledAlm
from zsfuse_ray.models.untrained import untrained


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pooled")
    write_pooled(folder)
    return folder


@pytest.fixture
def both(folder: Path) -> tuple[Pooled, PooledAlm]:
    return Pooled(str(folder)), PooledAlm(str(folder))


def noise(seconds: float, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(int(16_000 * seconds), generator=torch.Generator().manual_seed(seed))


def test_vectors_equal_those_of_the_stock_encoder(both) -> None:
    """On 30 s, the only length that the stock encoder takes; its last state but for the final norm."""
    specialist, alm = both
    clip, network = noise(30), alm.network
    extractor = WhisperFeatureExtractor(feature_size=80)
    features = extractor(clip.numpy(), sampling_rate=16_000, return_tensors="pt").input_features
    states = []
    hook = network.trunk.layers[-1].register_forward_hook(lambda _, __, out: states.append(out))
    with torch.no_grad():
        network.trunk(features)
        hook.remove()
        hidden = states[0][0] if isinstance(states[0], tuple) else states[0]
        expected = torch.cat([hidden.mean(dim=1), hidden.std(dim=1, unbiased=False)], dim=1)
        expected = (expected - network.mean) / network.deviation
        logits, vectors = specialist.classify([clip])
        torch.testing.assert_close(vectors, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(logits, network.classifier(expected), atol=1e-4, rtol=1e-4)
        embedding = normalize(network.audio_projection(expected), dim=-1)
        torch.testing.assert_close(alm.embed_audio([clip]), embedding, atol=1e-4, rtol=1e-4)


def test_rows_do_not_depend_on_the_batch(both) -> None:
    _, alm = both
    clips = [noise(seconds, seed) for seed, seconds in enumerate((2.0, 0.03, 1.333, 5.01))]
    with torch.no_grad():
        together = alm.network.vectors(**alm.features(clips))
        alone = torch.cat([alm.network.vectors(**alm.features([clip])) for clip in clips])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_both_share_the_network_and_encode_a_clip_once(both, monkeypatch) -> None:
    specialist, alm = both
    assert specialist._trunk is alm._trunk
    encoded, vectors = [], alm.network.vectors
    monkeypatch.setattr(
        alm.network,
        "vectors",
        lambda features, frames: encoded.append(len(frames)) or vectors(features, frames),
    )
    clips = [noise(1, seed) for seed in (10, 11)]
    embed_clips(alm, clips, (1,), batch_s=40)
    classify_clips(specialist, clips, batch_s=40)
    assert sum(encoded) == 2
    embed_clips(alm, clips, (1, 2), batch_s=40)
    assert sum(encoded) == 4  # repeated twice is another input


def test_a_long_clip_is_averaged_over_windows(both) -> None:
    specialist, _ = both
    clip = noise(40)
    found = classify_clips(specialist, [clip], batch_s=40)[1]
    first, second = specialist.classify([clip[:480_000], clip[480_000:]])[1]
    torch.testing.assert_close(found[0], 0.75 * first + 0.25 * second, atol=1e-5, rtol=1e-5)


def test_models_are_named_by_family_or_by_folder(folder: Path) -> None:
    assert parse_spec(str(folder), "specialist").family == "pooled"
    assert parse_spec(str(folder), "alm").family == "pooled-alm"
    assert load(parse_spec(f"pooled:{folder}", "specialist")).labels == ("sad", "happy")
    with pytest.raises(InputError, match=r"is no pooled model: config\.json has model_type 'wav2vec2'"):
        load(parse_spec(f"pooled:{untrained('classifier')}", "specialist"))


def test_texts_are_pooled_over_their_tokens(both) -> None:
    _, alm = both
    with torch.no_grad():
        rows, truncated = alm.embed_text(["this is sad", "happy"])
        alone, _ = alm.embed_text(["happy"])
        hidden = alm.network.text_model(torch.tensor([[3]])).last_hidden_state[0, 0]
    assert truncated == [False, False]
    torch.testing.assert_close(rows[1:], alone, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(rows[1], normalize(hidden, dim=-1), atol=1e-6, rtol=1e-5)


def test_a_saved_model_gives_the_same_values(both, tmp_path: Path) -> None:
    _, alm = both
    alm.save(tmp_path / "copy")
    clip = noise(1, 5)
    torch.testing.assert_close(PooledAlm(str(tmp_path / "copy")).embed_audio([clip]), alm.embed_audio([clip]))
