"""Interface of all specialists: one tower from audio to logits, and the pooled vector before them."""

from typing import Literal, Protocol

from torch import Tensor


class Specialist(Protocol):
    """An audio classifier over its own fixed labels.

    sample_rate: in Hz; window: in samples, None for any length; a model with a window pads every input to it.
    labels: in the order of the logits. vector_dim: size of the vector that the last classification layer
    reads, None if it is not accessible. same_length: padding would change the results, so only clips of equal
    length may share a batch. revision: of the checkpoint, None if there is none. trained_on: data sets named
    in the model card.
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
        """Return logits (n, labels) and vectors (n, vector_dim) or None, from one forward pass; float32.

        clips: 1-D float tensors at `sample_rate`, at most `window` long. Each row depends on its clip alone,
        given equal lengths if `same_length`.
        """
        ...
