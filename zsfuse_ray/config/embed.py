"""Options of ``zsfuse embed``."""

from typing import ClassVar

from pydantic.dataclasses import dataclass

from zsfuse_ray.config.options import CHECKED, Repeats, option
from zsfuse_ray.config.score import RunConfig


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EmbedConfig(RunConfig):
    """Options of ``zsfuse embed``: those of the plan and of the encoders.

    --alm and --specialist may name several models, separated by commas.
    """

    preset_folder: ClassVar[str | None] = "models"
    default_preset: ClassVar[str | None] = "mini"

    audio_repeats: Repeats = option(
        (1, 2, 3, 4), "a: copies of the audio; each distinct input is encoded once", "models"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # a set, from which scoring selects
        object.__setattr__(self, "audio_repeats", tuple(sorted(set(self.audio_repeats))))

    @property
    def models(self) -> dict[str, str]:
        """The models by their names in the table, see `EncoderOptions.models`."""
        named = {}
        for kind in ("alm", "specialist"):
            names = [name.strip() for name in getattr(self, kind).split(",")]
            for n, name in enumerate(name for name in names if name != "none"):
                named[kind if n == 0 else f"{kind}{n + 1}"] = name
        return named
