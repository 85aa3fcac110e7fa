"""What a family says of itself, for ``--list-models``."""

from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    """A family in a line: rate, window and dimension as its usual checkpoints have them, in words.

    licence: of these checkpoints. checkpoints: some known to work, as one names them.
    """

    rate: str
    window: str
    dim: str
    licence: str
    checkpoints: tuple[str, ...]
