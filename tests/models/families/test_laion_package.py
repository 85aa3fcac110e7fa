"""The package laion-clap as a family: its own full-size networks, without the hub."""

import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from transformers import RobertaModel, RobertaTokenizer

from tests.models.speech_clips import podcast_clips
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.families.laion import Laion
from zsfuse_ray.models.families.laion_package import LaionPackage

if find_spec("laion_clap") is None:
    pytest.skip("laion-clap is not installed: pip install -e '.[laion]'", allow_module_level=True)

from tests.models.families.test_laion import (
    CLOSE,
    TEXTS,
    WINDOW,
    assert_audio_agrees,
    encoded,
    spread,
    tiled,
    voice,
)
from tests.models.laion_reference import package, random_state, write


def opened(folder, *network):
    """Return the reference, its file, and the models of both families for this file."""
    module = package(*network)
    file = write(folder, random_state(module, seed=1))
    module.load_ckpt(str(file), verbose=False)
    return module, file, [Laion(str(file)), LaionPackage(str(file))]


@pytest.fixture(scope="module", params=[False, True], ids=["unfused", "fused"])
def tiny(request, tmp_path_factory):
    return opened(tmp_path_factory.mktemp("tiny"), "HTSAT-tiny", request.param)


def assert_all_agree(module, models) -> None:
    clips = [voice(0.7, 1), voice(4, 2)]
    audio = torch.stack([encoded(module, clip) for clip in clips])
    texts = [*TEXTS, "this person is feeling sad. " * 12]
    text = torch.from_numpy(module.get_text_embedding(texts))
    for model in models:
        torch.testing.assert_close(model.embed_audio([tiled(clip) for clip in clips]), audio, **CLOSE)
        embeddings, truncated = model.embed_text(texts)
        torch.testing.assert_close(embeddings, text, **CLOSE)
        assert truncated == [False] * 4 + [True]
        assert model.scale == pytest.approx(module.model.get_logit_scale()[0].item())
    assert spread(audio) > 0.01
    assert spread(text) > 0.01


def test_both_families_equal_the_reference(tiny):
    module, _, models = tiny
    assert_all_agree(module, models)


def test_htsat_base_equals_the_reference(tmp_path):
    module, _, models = opened(tmp_path, "HTSAT-base")
    assert_all_agree(module, models)
    audio = models[0].network.config.audio_config
    assert (audio.patch_embeds_hidden_size, audio.hidden_size) == (128, 1024)
    assert (list(audio.depths), list(audio.num_attention_heads)) == ([2, 2, 12, 2], [4, 8, 16, 32])


def test_real_audio_embeddings_equal_the_reference(tiny, shared):
    module, _, models = tiny
    clips = podcast_clips(shared)
    assert_audio_agrees(module, models[1], {seconds: clips[seconds] for seconds in (0.3, 1, 12)})


def test_attributes(tiny):
    laion, model = tiny[2]
    for name in ("kind", "labels", "sample_rate", "window", "fill", "dim", "same_length", "max_tokens"):
        assert getattr(model, name) == getattr(laion, name)
    assert (model.revision, model.licence, model.window) == (laion.revision, "CC0-1.0", WINDOW)


def test_embeddings_do_not_depend_on_the_batch(tiny):
    model = tiny[2][1]
    clips = [tiled(voice(seconds)) for seconds in (0.3, 10)]
    alone = torch.cat([model.embed_audio([clip]) for clip in clips])
    torch.testing.assert_close(model.embed_audio(clips), alone, rtol=0, atol=1e-5)
    one_by_one = torch.cat([model.embed_text([text])[0] for text in TEXTS])
    torch.testing.assert_close(model.embed_text(TEXTS)[0], one_by_one, rtol=0, atol=1e-5)


def test_bfloat16_is_close(tiny):
    clip = [tiled(voice(2))]
    coarse = LaionPackage(str(tiny[1]), dtype=torch.bfloat16).embed_audio(clip)
    assert coarse.dtype == torch.float32
    assert (coarse @ tiny[2][1].embed_audio(clip).T).item() > 0.99


def test_network_missing_from_the_package_is_an_error(tmp_path):
    module = package(small=True)
    file = write(tmp_path, random_state(module))
    with pytest.raises(InputError, match=f"laion-clap has no HTSAT with 16 channels; use laion:{file}"):
        LaionPackage(str(file))


def test_missing_extra_is_an_error(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "laion_clap", None)
    with pytest.raises(
        InputError, match=r"needs the extra laion: pip install 'zsfuse-ray\[laion\]'"
    ) as error:
        LaionPackage(str(tiny[1]))
    assert "\n" not in str(error.value)
    assert RobertaModel.from_pretrained.__self__ is RobertaModel


_FRESH = """
import socket, sys, torch
def refuse(*_):
    raise AssertionError("network access")
socket.getaddrinfo = socket.socket.connect = refuse
before = list(sys.path)
from zsfuse_ray.models.catalog import load, parse_spec
assert "laion_clap" not in sys.modules
model = load(parse_spec("laion-package:" + sys.argv[1], "alm"))
model.embed_audio([torch.ones(48000)])
model.embed_text(["a"])
assert sys.path == before
"""


def test_import_and_load_are_silent_and_offline(tiny):
    if not tiny[0].enable_fusion:
        pytest.skip("a fresh process is slow, and fusion does more")
    done = subprocess.run(
        [sys.executable, "-c", _FRESH, str(tiny[1])], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_transformers_is_not_left_patched(tiny):
    assert "from_pretrained" not in vars(RobertaModel)
    assert "from_pretrained" not in vars(RobertaTokenizer)
