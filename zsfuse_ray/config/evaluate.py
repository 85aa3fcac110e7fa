"""Options of ``zsfuse evaluate``."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.labelled import LabelledOptions
from zsfuse_ray.config.models import RULE_NAMES, RULES_HELP, TUNED, RuleName
from zsfuse_ray.config.options import CHECKED, Fraction, Temperature, option
from zsfuse_ray.errors import InputError

Objective = Literal["nll", "ua"]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EvaluateConfig(LabelledOptions):
    """Options of ``zsfuse evaluate``: labelled clips, protocol, models."""

    tuned_keys: ClassVar[tuple[str, ...]] = TUNED

    folds: Annotated[int, Field(ge=2, le=100)] = option(
        5, "number of speaker-independent folds for a corpus without splits or folds", "protocol"
    )
    protocol: Literal["emobox", "loso", "split"] | None = option(
        None,
        "train and test in each fold: emobox uses EmoBox's folds, loso leaves out one speaker at a time, "
        "split needs splits; resumes fold by fold",
        "protocol",
    )
    refit: Literal["head", "none"] | None = option(
        None,
        "what --protocol trains on the train clips of each fold: head is a linear classifier on the frozen "
        "vectors of --specialist, the default; none keeps the specialist as it is",
        "protocol",
    )
    seeds: Annotated[int, Field(ge=1, le=100)] = option(
        1, "trainings of each fold of --protocol, which differ in their random seed", "protocol"
    )
    each_copies: bool = option(
        False, "with --protocol: also report every pair of --audio-repeats and --text-repeats", "protocol"
    )
    objective: Objective = option(
        "nll",
        "metric that prompt, amplification, weight and rule are chosen by on dev clips: the negative "
        "log-likelihood, which is less noisy with few speakers, or UA as in the paper, ties by likelihood",
        "protocol",
    )
    weight: Fraction | None = option(
        None,
        "also evaluate the fusion with this weight w and the largest of --audio-repeats and --text-repeats, "
        "which are then 1 by default",
        "fusion",
    )
    temperature: Temperature = option(1.0, "temperature T of the ALM in the fusion of --weight", "fusion")
    specialist_temperature: Temperature = option(
        1.0, "temperature of the specialist in the fusion of --weight", "fusion"
    )
    fused_temperature: Temperature = option(1.0, "temperature after the fusion of --weight", "fusion")
    fusion: RuleName = option("linear", f"rule of the fusion of --weight: {RULES_HELP}", "fusion", RULE_NAMES)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight is not None and "none" in (self.alm, self.specialist):
            raise InputError("--weight fuses two models: name both --alm and --specialist")
        if self.protocol is not None and self.weight is not None:
            raise InputError("--weight has no effect with --protocol: it chooses the weight in each fold")
        if self.protocol is not None and self.head is not None:
            raise InputError("--head has no effect with --protocol, which trains a head in each fold")
        if self.protocol is None and (self.refit is not None or self.seeds > 1 or self.each_copies):
            raise InputError("--refit, --seeds and --each-copies are options of a protocol: add --protocol")

    @classmethod
    def usual(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """With --weight, the repeats are 1 by default, as in score."""
        copies = {"audio_repeats": (1,), "text_repeats": (1,)} if given.get("weight") is not None else {}
        return super().usual(given) | copies

    @classmethod
    def takes_of_tuned(cls) -> set[str]:
        """All but the labels, which come from the clips."""
        return super().takes_of_tuned() - {"labels"}


# With --protocol, options of output and resources, and the number of seeds: all others decide the result.
BY_FOLD_OPERATIONAL = frozenset(
    {"output", "overwrite", "ray_address", "dashboard", "max_reject_rate", "resamples", "seeds"}
    | {"pools", "encoders", "gpus_per_encoder", "cpus_per_encoder", "batch_s"}
)
