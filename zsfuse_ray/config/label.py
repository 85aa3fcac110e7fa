"""Options of ``zsfuse label`` and `Labeller`: how audio is labelled, without an archive or a cluster."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic.dataclasses import dataclass

from zsfuse_ray.audio.segment import GRID_S, Channels, Segmentation, Vad
from zsfuse_ray.config.models import (
    FUSION_NAMES,
    RULES_HELP,
    TUNED,
    FusionName,
    PromptOptions,
    is_fusion_folder,
)
from zsfuse_ray.config.options import CHECKED, Fraction, Options, Temperature, Words, option
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labels import UNSURE, label_set


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class SegmentOptions(Options):
    """How recordings are cut into items, and items into segments."""

    item_s: float = option(
        300.0,
        f"length of the items that recordings are cut into, in seconds; a multiple of {GRID_S:g}",
        "segments",
    )
    vad: Vad = option(
        "silero",
        "silero detects speech; none cuts windows and trims their silence, for clips that are cut already",
        "segments",
    )
    min_segment_s: float = option(0.5, "shortest segment in seconds", "segments")
    max_segment_s: float = option(10.0, "longest segment in seconds", "segments")
    vad_threshold: Fraction = option(0.5, "speech probability at which a segment starts", "segments")
    channels: Channels = option(
        "mix",
        "mix: label the mix of all channels; split: label each channel by itself, such as of calls with a "
        "speaker per channel; first: label the first channel only",
        "segments",
    )
    speakers: str | None = option(
        None,
        "turns of the speakers, by which segments are cut and named: an RTTM file, or a folder with one per "
        "recording, of its name",
        "segments",
        "PATH",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.speakers and self.channels == "split":
            raise InputError("--speakers and --channels split exclude each other: a channel is one speaker")
        if self.item_s < GRID_S or self.item_s % GRID_S:
            raise InputError(f"--item-s must be a multiple of {GRID_S:g} seconds, not {self.item_s:g}")
        if not 0.1 <= self.min_segment_s <= self.max_segment_s / 2:
            raise InputError("--min-segment-s must lie between 0.1 and half of --max-segment-s")
        if not 1 <= self.max_segment_s <= 60:
            raise InputError(f"--max-segment-s must lie between 1 and 60 seconds, not {self.max_segment_s:g}")

    @property
    def segmentation(self) -> Segmentation:
        """The segment options as a `Segmentation`."""
        return Segmentation(
            self.vad, self.min_segment_s, self.max_segment_s, self.vad_threshold, self.channels
        )


# The options of labelling encoded segments, besides the models and the copies of the audio.
LABELLING = (
    *("labels", "templates", "words", "text_repeats", "separator"),
    *("ensemble", "temperature", "specialist_temperature", "fusion", "weight", "fused_temperature"),
    *("normalise", "unsure_below", "transcripts"),
    *("prior", "prior_strength"),  # only of an archive
)


def usual_labels(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the label set of a corpus if the first name is one, else the names unchanged."""
    # lazy import: the libraries of the readers are slow, and a wrong command line needs none
    from zsfuse_ray.corpora.registry import CORPORA

    return CORPORA[names[0]].labels if names[0] in CORPORA else names


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LabellingOptions(PromptOptions):
    """The models, the prompts, and how their outputs become labels."""

    preset_folder: ClassVar[str | None] = "score"
    default_preset: ClassVar[str | None] = "mini"
    tuned_keys: ClassVar[tuple[str, ...]] = TUNED

    labels: Words = option(
        ("emodb",), "label set, or the name of a corpus for its labels", "labels and prompts"
    )
    temperature: Temperature = option(1.0, "temperature T of the softmax over the ALM's scores", "fusion")
    specialist_temperature: Temperature = option(
        1.0, "temperature of the softmax over the specialist's logits", "fusion"
    )
    fusion: FusionName = option(
        "linear",
        f"rule that combines the two posteriors: {RULES_HELP}; or the folder of a fusion that train --task "
        "fusion has made, with its models, labels and prompts",
        "fusion",
        FUSION_NAMES,
    )
    weight: Fraction = option(
        0.5, "fusion weight w, the share of the ALM; 0 is the specialist alone", "fusion"
    )
    fused_temperature: Temperature = option(
        1.0, "temperature of the fused posterior; above 1 lowers the confidence", "fusion"
    )
    normalise: Literal["auto", "none", "recording", "speaker"] = option(
        "auto",
        "normalise the specialist's vectors by the statistics of their recording, or of the speaker that a "
        "manifest's column speaker or --speakers names; for a specialist trained for it, as the default is; "
        "auto: speaker if there are any, else recording; none for other specialists",
        "models",
    )
    transcripts: str | None = option(
        None,
        "folder with a transcript per recording, of its name (JSON of Whisper or WhisperX, VTT, SRT): adds a "
        "column text",
        "output",
        "FOLDER",
    )
    unsure_below: Fraction = option(
        0.0,
        f'label segments with a lower confidence "{UNSURE}"; 0 labels every segment',
        "labels and prompts",
    )

    @classmethod
    def implied(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Options that --head and --fusion FOLDER bring.

        With --head, no temperature: the preset's is that of the specialist's own head. With a trained fusion,
        the labels and prompts that it was fitted with, and its models, unless a table has them.
        """
        values = {} if given.get("head") is None else {"specialist_temperature": 1.0}
        if not is_fusion_folder(fusion := str(given.get("fusion"))):
            return values
        if "weight" in given:
            raise InputError(f"--weight has no effect with --fusion {fusion}, which has its own weights")
        # lazy import: slow, and most command lines name no folder
        from zsfuse_ray.config.fusion import read_fusion

        return values | read_fusion(fusion).implied(given)

    def __post_init__(self) -> None:
        super().__post_init__()
        names = usual_labels(self.labels) if len(self.labels) == 1 else self.labels
        object.__setattr__(self, "labels", label_set(names))
        if self.unsure_below and UNSURE in self.labels:
            raise InputError(f'--unsure-below: "{UNSURE}" is one of the labels; rename it')


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LabellerOptions(LabellingOptions, SegmentOptions):
    """Options of `Labeller`."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class LabelConfig(LabellerOptions):
    """Options of ``zsfuse label``."""

    needed: ClassVar[Mapping[str, Any]] = {"files": ("talk.mp3",)}
    positional: ClassVar[str | None] = "files"

    files: tuple[str, ...] = option((), "audio files or URIs", "input", "FILE")
    format: Literal["table", "csv", "jsonl"] = option(
        "table", "table shows the main columns; csv and jsonl have all of them", "output"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.files:
            raise InputError("name the file to label, for example zsfuse label talk.mp3")
