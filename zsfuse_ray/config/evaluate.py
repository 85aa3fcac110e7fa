"""Options of ``zsfuse evaluate``."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.labelled import LabelledOptions
from zsfuse_ray.config.models import RULE_NAMES, RULES_HELP, TUNED, FusionName
from zsfuse_ray.config.options import CHECKED, Fraction, option
from zsfuse_ray.errors import InputError


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EvaluateConfig(LabelledOptions):
    """Options of ``zsfuse evaluate``: labelled clips, who chooses and who tests, the models."""

    tuned_keys: ClassVar[tuple[str, ...]] = TUNED

    folds: Annotated[int, Field(ge=2, le=100)] = option(
        5, "speaker-independent folds of a corpus with neither splits nor folds of its own", "protocol"
    )
    weight: Fraction | None = option(
        None,
        "weight w of one more fusion, measured beside those that are chosen, with the most copies of "
        "--audio-repeats and --text-repeats, which are then 1 by default; by default there is none",
        "fusion",
    )
    temperature: Annotated[float, Field(gt=0)] = option(
        1.0, "temperature T of the fusion of --weight", "fusion"
    )
    fusion: FusionName = option(
        "linear", f"rule of the fusion of --weight: {RULES_HELP}", "fusion", RULE_NAMES
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight is not None and "none" in (self.alm, self.specialist):
            raise InputError("--weight fuses two models, and there is one; name --alm and --specialist")

    @classmethod
    def usual(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """With a fusion that is given: no copies but those that are given too, as score takes it."""
        copies = {"audio_repeats": (1,), "text_repeats": (1,)} if given.get("weight") is not None else {}
        return super().usual(given) | copies

    @classmethod
    def takes_of_tuned(cls) -> set[str]:
        """All but the labels, which are the clips' own."""
        return super().takes_of_tuned() - {"labels"}
