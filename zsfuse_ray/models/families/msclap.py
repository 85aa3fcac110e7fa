"""Microsoft CLAP (Elizalde et al., arXiv 2206.04769 and 2309.05767; github.com/microsoft/CLAP).

The checkpoints are the authors' own files, microsoft/msclap/CLAP_weights_2023.pth (HTS-AT and GPT-2, clips of
7 s) and CLAP_weights_2022.pth (CNN14 and BERT, 5 s), distinguished by the names of the weights. Both use
44.1 kHz without normalisation of the waveform, have 1024 dimensions and the MIT licence. The reference is the
authors' package, msclap 1.3.4. As in the reference:

- A shorter clip is repeated up to the window, the last copy truncated ("circular").
- The spectrogram's window and mel filters are those in the file. Those of 2023 were designed for 32 kHz and
  are therefore at 44.1 / 32 of their nominal frequencies.
- A text of 2023 ends in " <|endoftext|>" and is pooled at position (number of non-zero ids) − 1, its end. But
  id 0 is "!" as well as padding, so each "!" in a text moves the position one token to the left. A text of
  2022 is pooled at its first token.

Deliberate differences:

- A longer clip is encoded in windows or cropped to its head; the reference crops at random.
- Channels are mixed first; the reference concatenates them in time.
- A longer text is truncated to 77 (2023) or 100 (2022) tokens, keeping its ending, and reported as truncated.
  The reference fails on it in a batch, and encodes all of it alone.
- Spectra are computed by FFT in float64; the reference uses convolutions in float32.
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
                f"{checkpoint}: not a valid msclap checkpoint; expected the weights of CLAP_weights_2023.pth "
                "(HTS-AT, GPT-2) or CLAP_weights_2022.pth (CNN14, BERT)"
            )
        try:
            network, mel = MsClapNetwork(weights, year, checkpoint), MsClapMel(weights, year)
            weights = named(weights, year)
        except InputError:
            raise
        except Exception as error:  # untrusted weights: inconsistent sizes may raise anything
            reason = str(error).strip().partition("\n")[0]
            raise InputError(
                f"{checkpoint}: not a valid msclap checkpoint, wrong or missing: {reason}"
            ) from error
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
                f"{name} needs the tokenizer of {network.year.tokenizer} ({network.vocabulary} tokens, "
                f"padding id 0), not one with {len(tokenizer)} tokens and padding id {tokenizer.pad_token_id}"
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
