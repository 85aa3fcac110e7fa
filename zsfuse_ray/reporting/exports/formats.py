"""The formats of ``zsfuse export``: one line each."""

from collections.abc import Callable
from dataclasses import dataclass

from zsfuse_ray.reporting.exports import (
    audacity,
    audformat,
    captions,
    elan,
    hugging_face,
    label_studio,
    rows,
    rttm,
    textgrid,
)
from zsfuse_ray.reporting.exports.labelled import LabelledRun, Recording
from zsfuse_ray.runs.folder import Output


@dataclass(frozen=True)
class PerRecording:
    """A format with a file for each recording. suffix: appended to its name; text: content of the file."""

    suffix: str
    text: Callable[[Recording], str]


@dataclass(frozen=True)
class Whole:
    """A format that has the whole run in its folder. check: InputError if it cannot be written here."""

    write: Callable[[LabelledRun, Output], None]
    check: Callable[[], None] = lambda: None


FORMATS: dict[str, PerRecording | Whole] = {
    "csv": Whole(rows.write_csv),
    "jsonl": Whole(rows.write_jsonl),
    "audacity": PerRecording(".txt", audacity.text),
    "vtt": PerRecording(".vtt", captions.webvtt),
    "srt": PerRecording(".srt", captions.subrip),
    "textgrid": PerRecording(".TextGrid", textgrid.text),
    "elan": PerRecording(".eaf", elan.text),
    "rttm": PerRecording(".rttm", rttm.text),
    "label-studio": Whole(label_studio.write),
    "audformat": Whole(audformat.write, audformat.check),
    "huggingface": Whole(hugging_face.write),
}
