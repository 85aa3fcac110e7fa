"""The network of Microsoft CLAP, 2022 or 2023, and its log-mel, with sizes inferred from the weights.

2023 is transformers' ClapAudioModel (the same HTS-AT) and GPT2Model, 2022 is CNN14 and BertModel, each with
the projection that ParaCLAP adopted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, ClapAudioModel, GPT2Config, GPT2Model

from zsfuse_ray.audio.features import pad_to
from zsfuse_ray.models.networks.cnn14 import Cnn14
from zsfuse_ray.models.networks.configs import HEAD, text_config
from zsfuse_ray.models.networks.dual import MlpProjection
from zsfuse_ray.models.networks.htsat import htsat_config, htsat_weights
from zsfuse_ray.models.networks.sizes import Sizes, part_of

RATE = 44_100
_HOP = 320
FAMILY = "msclap"
_AUDIO, _TEXT = "audio_encoder.base.", "caption_encoder.base."

# Not part of the network: spectrograms (read by `MsClapMel`), classifiers, BERT's pooler, and masks and
# positions stored by older versions of transformers.
UNUSED = (
    rf"{_AUDIO}(spectrogram_extractor|logmel_extractor|fc_audioset)\..*",
    rf"{_TEXT}(pooler\..*|embeddings\.position_ids|h\.\d+\.attn\.(masked_)?bias)",
)


@dataclass(frozen=True)
class Year:
    """Differences between the years. marks: names of weights that only one of them has.

    audio: prefix of the audio encoder's weights. is_gpt: the text encoder is GPT-2, not BERT. window: in
    samples. tokenizer: its hub id.
    """

    audio: str
    marks: tuple[str, str]
    is_gpt: bool
    window: int
    tokenizer: str
    max_tokens: int


YEARS = (
    Year(
        audio=f"{_AUDIO}htsat.",
        marks=(f"{_AUDIO}htsat.patch_embed.proj.weight", f"{_TEXT}wte.weight"),
        is_gpt=True,
        window=7 * RATE,
        tokenizer="openai-community/gpt2",
        max_tokens=77,
    ),
    Year(
        audio=_AUDIO,
        marks=(f"{_AUDIO}conv_block1.conv1.weight", f"{_TEXT}embeddings.word_embeddings.weight"),
        is_gpt=False,
        window=5 * RATE,
        tokenizer="google-bert/bert-base-uncased",
        max_tokens=100,
    ),
)


class MsClapMel(nn.Module):
    """Log-mel in dB with a checkpoint's own filters: clips → (B, 1, frames, bins), float32.

    Clips are zero-padded to the window. KeyError or ValueError for missing or invalid filters.
    """

    hann: Tensor
    filters: Tensor

    def __init__(self, weights: Mapping[str, Tensor], year: Year):
        super().__init__()
        self.window = year.window
        cosines = weights[f"{year.audio}spectrogram_extractor.stft.conv_real.weight"][:, 0].double()
        bins, samples = cosines.shape
        hann = cosines[0]  # times the cosine of frequency 0, which is 1
        angles = torch.arange(bins)[:, None] * torch.arange(samples) % samples * (2 * torch.pi / samples)
        if bins != samples // 2 + 1 or not torch.allclose(cosines, hann * angles.cos(), rtol=0, atol=1e-3):
            raise ValueError("the spectrogram's weights are not a windowed Fourier transform")
        filters = weights[f"{year.audio}logmel_extractor.melW"].double()
        expected = (bins, len(weights[f"{year.audio}bn0.weight"]))
        if filters.shape != expected:
            raise ValueError(f"the mel filters have shape {list(filters.shape)}, expected {list(expected)}")
        self.register_buffer("hann", hann, persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, clips: Sequence[Tensor]) -> Tensor:
        waveforms = pad_to(clips, self.window).double()
        spectrum = torch.stft(
            waveforms, len(self.hann), _HOP, window=self.hann, pad_mode="reflect", return_complex=True
        )
        power = spectrum.abs().square().transpose(1, 2) @ self.filters
        return 10 * power.clamp(min=1e-10).log10().float()[:, None]


class MsClapNetwork(nn.Module):
    """Both towers, under the names of `named`. logit_scale: log of the factor of the cosine.

    Raises InputError, KeyError or any other exception for inconsistent sizes; `name` is for messages.
    """

    def __init__(self, weights: Mapping[str, Tensor], year: Year, name: str):
        super().__init__()
        self.year = year
        self.dim = len(weights["audio_encoder.projection.linear1.weight"])
        if year.is_gpt:
            audio = ClapAudioModel(htsat_config(Sizes(weights, name, FAMILY, year.audio)))
            layers = Sizes(weights, name, FAMILY, _TEXT).parts("h.")
            text, width = _gpt2(part_of(weights, _TEXT), layers), audio.config.hidden_size
        else:
            audio = Cnn14(part_of(weights, year.audio))
            text_sizes: Any = text_config(Sizes(weights, name, FAMILY, _TEXT), BertConfig)
            text, width = BertModel(text_sizes, add_pooling_layer=False), audio.width
        self.positions, self.vocabulary = text.config.max_position_embeddings, text.config.vocab_size
        self.audio_encoder = self._tower(audio, width)
        self.caption_encoder = self._tower(text, text.config.hidden_size)
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def _tower(self, base: nn.Module, width: int) -> nn.ModuleDict:
        return nn.ModuleDict({"base": base, "projection": MlpProjection(width, self.dim, dropout=0.5)})

    def audio(self, mel: Tensor) -> Tensor:
        """Return (B, dim) embeddings, not normalised, of log-mels (B, 1, frames, bins)."""
        output = self.audio_encoder["base"](mel)
        return self.audio_encoder["projection"](output.pooler_output if self.year.is_gpt else output)

    def text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return (B, dim) embeddings, not normalised, of token ids (B, length) and their mask."""
        hidden = self.caption_encoder["base"](input_ids, attention_mask=attention_mask).last_hidden_state
        if not self.year.is_gpt:
            return self.caption_encoder["projection"](hidden[:, 0])
        rows = torch.arange(len(hidden), device=hidden.device)
        return self.caption_encoder["projection"](hidden[rows, (input_ids != 0).sum(dim=1) - 1])


def named(weights: Mapping[str, Tensor], year: Year) -> dict[str, Tensor]:
    """Return a checkpoint's weights under the network's names, which differ for HTS-AT."""
    if not year.is_gpt:
        return dict(weights)
    others = {name: value for name, value in weights.items() if not name.startswith(year.audio)}
    return others | {
        f"{_AUDIO}{n}": value for n, value in htsat_weights(part_of(weights, year.audio)).items()
    }


def _gpt2(weights: Mapping[str, Tensor], layers: int) -> GPT2Model:
    vocabulary, width = weights["wte.weight"].shape
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=len(weights["wpe.weight"]),
        n_embd=width,
        n_layer=layers,
        n_head=width // HEAD,
        n_inner=len(weights["h.0.mlp.c_proj.weight"]),
        use_cache=False,
        bos_token_id=None,  # the defaults exceed a smaller vocabulary, and are used only in generation
        eos_token_id=None,
    )
    return GPT2Model(config)
