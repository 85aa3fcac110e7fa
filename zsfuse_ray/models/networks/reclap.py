"""The network of ReCLAP: transformers' ClapAudioModel and T5EncoderModel, each with a projection.

All sizes are inferred from the weights, which keep the authors' names, except for those of HTS-AT.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import ClapAudioModel, T5Config, T5EncoderModel

from zsfuse_ray.models.networks.htsat import htsat_config, htsat_weights
from zsfuse_ray.models.networks.sizes import Sizes, part_of

FAMILY = "ReCLAP"
TEXT_LENGTH = 77  # tokens, with padding
_AUDIO, _TEXT = "audio_branch.", "text_branch."
_EMBEDDING = f"{_TEXT}shared.weight"
UNUSED = (r"(audio|text)_transform\..*", "logit_scale_t")  # used only by the loss


class ReclapNetwork(nn.Module):
    """Both towers, under the names of `named`. logit_scale_a: log of the factor of the cosine.

    Raises InputError or ValueError for weights that are missing or inconsistent; `name` is for messages.
    """

    def __init__(self, weights: Mapping[str, Tensor], name: str):
        super().__init__()
        self.audio_branch = ClapAudioModel(htsat_config(Sizes(weights, name, FAMILY, _AUDIO)))
        text = Sizes(weights, name, FAMILY, _TEXT)
        self.text_branch = text.build(lambda: T5EncoderModel(_t5_config(text)))
        sizes = Sizes(weights, name, FAMILY)
        self.dim = sizes.of("audio_projection.2.weight", 2)[0]
        self.audio_projection = _projection(self.audio_branch.config.hidden_size, self.dim)
        self.text_projection = _projection(self.text_branch.config.d_model, self.dim)
        self.logit_scale_a = nn.Parameter(torch.zeros(()))

    def audio(self, mel: Tensor) -> Tensor:
        """Return (B, dim) embeddings, not normalised, of log-mels (B, 1, frames, bins)."""
        # a network with fusion would fuse inputs marked as longer than the window; none are
        longer = torch.zeros(len(mel), 1, dtype=torch.bool, device=mel.device)
        return self.audio_projection(self.audio_branch(mel, is_longer=longer).pooler_output)

    def text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return (B, dim) embeddings, not normalised, of token ids (B, length) and their mask.

        The mean over all 77 positions, padding included, is projected, as in training: the number of tokens
        counts.
        """
        missing = TEXT_LENGTH - input_ids.shape[1]
        input_ids, attention_mask = pad(input_ids, (0, missing)), pad(attention_mask, (0, missing))
        hidden = self.text_branch(input_ids, attention_mask=attention_mask).last_hidden_state
        return self.text_projection(hidden.mean(dim=1))


def named(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the authors' weights under the network's names."""
    kept = {name: value for name, value in weights.items() if not name.startswith(_AUDIO)}
    if _EMBEDDING in kept:  # a file without duplicates has it once
        kept.setdefault(f"{_TEXT}encoder.embed_tokens.weight", kept[_EMBEDDING])
    audio = htsat_weights(part_of(weights, _AUDIO))
    return kept | {f"{_AUDIO}{name}": value for name, value in audio.items()}


def _projection(width: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, dim), nn.ReLU(), nn.Linear(dim, dim))


def _t5_config(sizes: Sizes) -> T5Config:
    """Return the config of a T5 encoder; of version 1.1, like Flan-T5, if its feed-forward layer is gated."""
    vocabulary, width = sizes.of("shared.weight", 2)
    first = "encoder.block.0.layer."
    buckets, heads = sizes.of(f"{first}0.SelfAttention.relative_attention_bias.weight", 2)
    is_gated = sizes.has(f"{first}1.DenseReluDense.wi_0.weight")
    inner = sizes.of(f"{first}1.DenseReluDense.{'wi_0' if is_gated else 'wi'}.weight", 2)[0]
    return T5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=sizes.split(sizes.of(f"{first}0.SelfAttention.q.weight", 2)[0], heads),
        d_ff=inner,
        num_layers=sizes.parts("encoder.block."),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        feed_forward_proj="gated-gelu" if is_gated else "relu",
        use_cache=False,
    )
