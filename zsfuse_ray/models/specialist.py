"""What every specialist offers: one tower from audio to logits, and the pooled vector behind them."""

from typing import Literal, Protocol

from torch import Tensor


class Specialist(Protocol):
    """A classifier of audio over labels of its own.

    sample_rate in Hz; window in samples, None where any length goes: a model with a window pads every input
    to it. labels: in the order of the logits. vector_dim: size of the vector that the last classification
    layer reads, None where the network gives access to none. same_length: padding would change the results,
    so only clips of equal length may share a batch. revision: of the checkpoint, None where there is none.
    trained_on: data sets that its card names.
    """

    kind: Literal["specialist"]
    fill: Literal["none"]
    labels: tuple[str, ...]
    vector_dim: int | None
    revision: str | None
    licence: str | None
    trained_on: tuple[str, ...]
    sample_rate: int
    window: int | None
    same_length: bool

    def classify(self, clips: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return logits (n, labels) and vectors (n, vector_dim), or None, of one forward pass; float32.

        clips: 1-D float tensors at `sample_rate`, at most `window` long. Each row depends on its clip alone,
        given equal lengths where `same_length`.
        """
        ...
