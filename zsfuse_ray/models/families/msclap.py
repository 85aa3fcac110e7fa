"""Microsoft CLAP (Elizalde et al., arXiv 2206.04769 and 2309.05767; github.com/microsoft/CLAP).

The checkpoints are the authors' own files, microsoft/msclap/CLAP_weights_2023.pth (HTS-AT and GPT-2, clips of
7 s) and CLAP_weights_2022.pth (CNN14 and BERT, 5 s): the names of the weights show which. Both take 44.1 kHz
without any normalisation of the waveform, give 1024 numbers, and are under the MIT licence. The reference is
the authors' package, msclap 1.3.4. As there:

- A shorter clip is repeated up to the window, the last copy cut ("circular").
- The spectrogram's window and mel filters are those in the file. Those of 2023 were made for 32 kHz: they lie
  at 44.1 / 32 of the frequencies that they are named by.
- A text of 2023 ends in " <|endoftext|>" and is pooled at position (number of ids other than 0) − 1: its end,
  but id 0 is not only the padding, it is also "!", and each "!" in a text moves that place one token to the
  left. A text of 2022 is pooled at its first token.

On purpose otherwise:

- A longer clip is encoded in windows or cropped to its head, where the reference takes a random stretch.
- Channels are mixed before, where the reference puts them one after another.
- A longer text is cut to 77 (2023) or 100 (2022) tokens, its ending kept, and reported as cut. The reference
  fails on it among other texts, and alone encodes all of it.
- Spectra are computed by FFT in float64, where the reference convolves in float32.
"""

from typing import Any

import torch
from torch import Tensor

from zsfuse_ray.errors import InputError
from zsfuse_ray.models.about import About
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.checkpoints.find import resolve
from zsfuse_ray.models.checkpoints.load import download
from zsfuse_ray.models.checkpoints.weights import fill, read_weights, tokenizer_of
from zsfuse_ray.models.networks.msclap import FAMILY, RATE, UNUSED, YEARS, MsClapMel, MsClapNetwork, named

_ENDING = " <|endoftext|>"
_ENDING_TOKENS = 2  # its space, and the end of text


class MsClap(AudioLanguageModel):
    """Microsoft CLAP of 2022 or 2023. Raises InputError for a file that is missing or holds neither."""

    about = About(
        rate="44.1 kHz",
        window="7 s (2023), 5 s (2022)",
        dim="1024",
        licence="MIT",
        checkpoints=("microsoft/msclap/CLAP_weights_2023.pth", "microsoft/msclap/CLAP_weights_2022.pth"),
    )
    sample_rate = RATE
    fill = "circular"
    same_length = False

    def __init__(
        self, checkpoint: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ):
        source = download(resolve(checkpoint))
        super().__init__(source, dtype)
        self.licence, self.trained_on = source.licence or self.about.licence, source.trained_on

        weights = read_weights(source, keys=["model"])
        year = next((year for year in YEARS if all(mark in weights for mark in year.marks)), None)
        if year is None:
            raise InputError(
                f"{checkpoint}: no msclap checkpoint; expected the weights of CLAP_weights_2023.pth (HTS-AT, "
                "GPT-2) or CLAP_weights_2022.pth (CNN14, BERT)"
            )
        try:
            network, mel = MsClapNetwork(weights, year, checkpoint), MsClapMel(weights, year)
            weights = named(weights, year)
        except InputError:
            raise
        except Exception as error:  # weights from strangers: whatever their sizes make a network raise
            reason = str(error).strip().partition("\n")[0]
            raise InputError(f"{checkpoint}: no msclap checkpoint, wrong or missing: {reason}") from error
        network = fill(network, weights, checkpoint, FAMILY, UNUSED)
        self.put_together(checkpoint, network.to(device), mel, tokenizer_of(source, year.tokenizer))

    def put_together(self, name: str, network: Any, extractor: Any, tokenizer: Any) -> None:
        """Set all attributes, see `AudioLanguageModel.put_together`."""
        self.network, self.extractor, self.tokenizer = network, extractor, tokenizer
        self.window = extractor.window
        self.dim = network.dim
        self.logit_scale = network.logit_scale
        self.max_tokens = min(network.year.max_tokens, network.positions)
        if network.year.is_gpt:
            tokenizer.add_special_tokens({"pad_token": "!"})  # so "!!" is two tokens, as in the reference
        if tokenizer.pad_token_id != 0 or len(tokenizer) > network.vocabulary:
            raise InputError(
                f"{name} needs the tokenizer of {network.year.tokenizer} ({network.vocabulary} tokens, id 0 "
                f"pads), not one of {len(tokenizer)} where id {tokenizer.pad_token_id} pads"
            )

    def features(self, clips: list[Tensor]) -> dict[str, Tensor]:
        """Return mel (B, 1, frames, bins), see `AudioLanguageModel.features`."""
        return {"mel": self.extractor.to(self.device)([clip.to(self.device) for clip in clips])}

    def audio(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return (B, dim) embeddings, see `AudioLanguageModel.audio`."""
        return self.network.audio(inputs["mel"])

    def text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return (B, dim) embeddings, see `AudioLanguageModel.text`."""
        return self.network.text(input_ids, attention_mask)

    def tokens(self, texts: list[str]) -> tuple[list[Tensor], list[bool]]:
        """Return the token ids of each text with the year's ending, see `AudioLanguageModel.tokens`."""
        if not self.network.year.is_gpt:
            return super().tokens(texts)
        full = self.tokenizer([text + _ENDING for text in texts], verbose=False).input_ids
        truncated = [len(ids) > self.max_tokens for ids in full]
        head = self.max_tokens - _ENDING_TOKENS
        rows = [
            ids[:head] + ids[-_ENDING_TOKENS:] if cut else ids
            for ids, cut in zip(full, truncated, strict=True)
        ]
        return [torch.tensor(ids, device=self.device) for ids in rows], truncated
