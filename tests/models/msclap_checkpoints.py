"""Small checkpoints, tokenizers and clips of Microsoft CLAP, the same as its own package was run on."""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from tests.models.seeded_weights import seeded_state
from zsfuse_ray.audio.resample import resample

RATE = 44100
SECONDS = (0.3, 1.0, 3.0, 7.0, 10.0, 12.0, 30.0)
TEXTS = (
    "this person is feeling happy.",
    "Traurig",
    "",
    "this person is feeling angry! this person is feeling angry!",
    "so happy!!",
    "trailing space ",
    "this person is feeling sad. " * 2,
)
# longer than the reference's limit, but within the small models' positions
LONG_TEXT = {year: "this person is feeling sad. " * n for year, n in (("2022", 14), ("2023", 4))}


def checkpoint(
    shapes: Mapping[str, Sequence[int]], fixed: Mapping[str, torch.Tensor], seed: int
) -> dict[str, torch.Tensor]:
    """Return a state_dict in the package's format; fixed: non-random tensors, by the end of a name."""
    spectrogram = next(shape for name, shape in shapes.items() if name.endswith("conv_real.weight"))
    state = seeded_state(shapes, seed)
    for name, shape in shapes.items():
        end = name.rpartition(".")[2]
        if end in fixed:
            state[name] = fixed[end]
        elif name.endswith("bn0.running_mean"):
            state[name] = torch.full(
                tuple(shape), -30.0
            )  # about the level of speech in dB, so that clips differ
        elif name.endswith("bn0.running_var"):
            state[name] = torch.full(tuple(shape), 400.0)
        elif ".conv_block" in name and end == "running_var":
            state[name] *= 0.4  # loss of variance by ReLU and pooling
        elif end == "num_batches_tracked":
            state[name] = torch.tensor(0)
        elif end == "attn_mask":
            state[name] = torch.zeros(tuple(shape))
        elif name.endswith(("conv_real.weight", "conv_imag.weight")):
            state[name] = _fourier(spectrogram[2], imaginary="imag" in name)
    return state


@cache
def _fourier(samples: int, imaginary: bool) -> torch.Tensor:
    times = np.arange(samples)
    angles = np.arange(samples // 2 + 1)[:, None] * times % samples * (2 * math.pi / samples)
    hann = 0.5 - 0.5 * np.cos(2 * math.pi * times / samples)
    waves = -np.sin(angles) if imaginary else np.cos(angles)
    return torch.from_numpy((waves * hann)[:, None].astype(np.float32))


def write_gpt2_tokenizer(folder: Path) -> None:
    """Write GPT-2's tokenizer with a vocabulary of single bytes and a few merges, with "!" as id 0."""
    merges = [("t", "h"), ("i", "s"), ("Ġ", "is"), ("th", "is"), ("!", "!"), ("Ġ", "!"), ("Ġ", "Ġ")]
    known = sorted(pre_tokenizers.ByteLevel.alphabet()) + ["".join(pair) for pair in merges]
    vocabulary = {token: i for i, token in enumerate([*known, "<|endoftext|>"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    ends = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    _write(folder, tokenizer, {"tokenizer_class": "GPT2Tokenizer", "model_max_length": 1024, **ends})


def write_bert_tokenizer(folder: Path) -> None:
    """Write BERT's tokenizer with a vocabulary of letters and a few words."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(i) for i in range(ord("a"), ord("z") + 1)]
    words = ["this", "person", "is", "feeling", "##ing", ".", "!", *letters, *(f"##{c}" for c in letters)]
    vocabulary = {token: i for i, token in enumerate(special + words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    tokens = {f"{name}_token": token for name, token in names.items()}
    _write(folder, tokenizer, {"tokenizer_class": "BertTokenizer", "model_max_length": 512, **tokens})


def _write(folder: Path, tokenizer: Tokenizer, config: Mapping[str, object]) -> None:
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@cache
def made_up_clips() -> list[torch.Tensor]:
    """Return clips of `SECONDS` at 44.1 kHz: harmonics of a gliding tone plus noise, with an envelope."""
    clips = []
    for seed, seconds in enumerate(SECONDS):
        noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
        times = np.arange(len(noise)) / RATE
        phase = 2 * math.pi * np.cumsum(110 + 30 * seed + 20 * np.sin(3 * times)) / RATE
        voice = sum(np.sin(k * phase) / k for k in range(1, 20))
        clip = (0.1 * voice + 0.02 * noise) * (1.1 + np.sin(2 * math.pi * (1 + seed / 2) * times))
        clips.append(torch.from_numpy(clip.astype(np.float32)))
    return clips


def real_clips(shared: Path) -> list[torch.Tensor]:
    """Return clips of `SECONDS` at 44.1 kHz, cut from concatenated sentences of EmoDB."""
    files = sorted((shared / "corpora" / "emodb").glob("*.flac"))
    speech = torch.cat([torch.from_numpy(soundfile.read(file, dtype="int16")[0]) for file in files[:40]])
    waveform, clips, start = resample(speech, 16000, RATE), [], 0
    for seconds in SECONDS:
        samples = round(seconds * RATE)
        clips.append(waveform[start : start + samples])
        start += samples
    return clips
