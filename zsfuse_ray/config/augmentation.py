"""Augmentation options of ``zsfuse train``, and the number types of all its options."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.options import CHECKED, Fraction, Options, option
from zsfuse_ray.errors import InputError

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]


def _two(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


Range = Annotated[tuple[float, float], BeforeValidator(_two)]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class AugmentationOptions(Options):
    """Random changes to training clips; 0 disables a change."""

    mixup: Fraction = option(0.0, "share of the clips that are mixed with another clip", "augmentation")
    mixup_alpha: Positive = option(
        0.4, "both parameters of the mixing weight's Beta distribution", "augmentation"
    )
    speed: Annotated[float, Field(ge=0, lt=0.5)] = option(
        0.0, "change the speed, and so tempo and pitch, by up to this share", "augmentation"
    )
    warp: Annotated[float, Field(ge=0, lt=0.5)] = option(
        0.0, "shift pitch and formants by up to this share at unchanged tempo", "augmentation"
    )
    gain_db: NotNegative = option(0.0, "change the level by up to this many dB", "augmentation")
    tilt_db: NotNegative = option(0.0, "tilt the spectrum by up to this many dB per octave", "augmentation")
    noise: Fraction = option(0.0, "share of the clips with white or pink noise", "augmentation")
    babble: Fraction = option(
        0.0, "share of the clips with other training clips in the background", "augmentation"
    )
    snr_db: Range = option(
        (5.0, 30.0), "signal-to-noise ratio of noise and babble in dB", "augmentation", "LOW,HIGH"
    )
    reverb: Fraction = option(0.0, "share of the clips with synthetic reverberation", "augmentation")
    silence_s: NotNegative = option(
        0.0, "add up to this many seconds of near silence at each end", "augmentation"
    )
    time_masks: Count = option(0, "number of stretches of features that are set to the mean", "augmentation")
    time_mask_s: Positive = option(0.3, "longest time mask in seconds", "augmentation")
    frequency_masks: Count = option(
        0, "number of bands of log-mel features that are set to the mean", "augmentation"
    )
    frequency_mask: Annotated[float, Field(gt=0, le=1)] = option(
        0.2, "widest frequency mask, as a share of the bands", "augmentation"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.snr_db[0] > self.snr_db[1]:
            raise InputError("--snr-db takes LOW,HIGH")
