"""A specialist of a third party without a network, for tests of what surrounds the models."""

import torch

from zsfuse_ray.models.about import About


class Loudness:
    """Sad if quiet, angry if loud; the vector is the loudness."""

    kind, labels, vector_dim = "specialist", ("sad", "angry"), 1
    about = About(rate="16 kHz", window="none", dim="1", licence="none", checkpoints=())
    sample_rate, window, fill, same_length, licence, revision = 16_000, None, "none", False, "none", "1"

    def __init__(self, checkpoint: str, device: str = "cpu", dtype: torch.dtype = torch.float32):
        pass

    def classify(self, clips: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Clips of (n,) samples → logits (clips, 2) and vectors (clips, 1)."""
        loud = torch.stack([clip.abs().mean() for clip in clips])[:, None]
        return torch.cat([-loud, loud], dim=1), loud
