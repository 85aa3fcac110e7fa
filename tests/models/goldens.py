"""Reference outputs for the clips of `real_clips` with seeded weights, and checkpoints with these weights."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from tests.models.seeded_weights import seeded_state
from zsfuse_ray.models.specialist import Specialist

_FOLDER = Path(__file__).parent / "golden"


def golden(name: str) -> dict[str, NDArray]:
    """Return the arrays of a golden file; `config` and `shapes` are JSON."""
    with np.load(_FOLDER / f"{name}.npz") as arrays:
        return dict(arrays)


def write_checkpoint(
    folder: Path, config: str, shapes: str, factors: Mapping[str, float] | None = None
) -> Path:
    """Write the reference's config.json and seeded weights, some multiplied, under the reference's names."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config)
    save_file(golden_weights(shapes, factors), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def golden_weights(shapes: str, factors: Mapping[str, float] | None = None) -> dict[str, torch.Tensor]:
    state = seeded_state(json.loads(shapes), 0)
    for name, factor in (factors or {}).items():
        state[name] *= factor
    return state


def one_at_a_time(model: Specialist, clips: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Return the logits and the vectors of clips, without batching."""
    return tuple(map(torch.cat, zip(*(model.classify([clip]) for clip in clips), strict=True)))


def assert_rows_depend_on_their_clips_alone(
    model: Specialist, clips: Sequence[torch.Tensor], bfloat16: float
) -> None:
    """Rows do not depend on the rest of the batch, its order or the random state; in bfloat16 only slightly.

    bfloat16: tolerance of bfloat16 logits, compared with float32 and with clips encoded separately.
    """
    same, near = {"rtol": 0, "atol": 1e-5}, {"rtol": 0, "atol": bfloat16}
    alone = one_at_a_time(model, clips)
    for rows, backwards, by_itself in zip(
        model.classify(clips), model.classify(clips[::-1]), alone, strict=True
    ):
        torch.testing.assert_close(rows, by_itself, **same)
        torch.testing.assert_close(backwards, by_itself.flip(0), **same)
    torch.manual_seed(1)
    for first, by_itself in zip(model.classify(clips[:1]), alone, strict=True):
        assert torch.equal(first, by_itself[:1])
    half = copy.copy(model)
    half.dtype = torch.bfloat16
    got, vectors = half.classify(clips)
    assert got.dtype == vectors.dtype == torch.float32
    assert not torch.equal(got, alone[0])
    torch.testing.assert_close(got, alone[0], **near)
    torch.testing.assert_close(got, torch.cat([half.classify([clip])[0] for clip in clips]), **near)
