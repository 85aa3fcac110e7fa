"""``zsfuse label``: prints the rows of a `Labeller`."""

import logging
import warnings

import pandas as pd

from zsfuse_ray.archive.listing import list_recording
from zsfuse_ray.audio.decode import DecodeError
from zsfuse_ray.audio.sources import SourceError
from zsfuse_ray.config.label import LabelConfig

log = logging.getLogger(__name__)


def print_labels(config: LabelConfig) -> int:
    """Label the files and print their rows; returns 1 if a file could not be read, else 0.

    InputError for a file that does not exist, before the models are loaded.
    """
    for file in config.files:
        list_recording(file)
    log.info("loading the models")
    from zsfuse_ray.api import Labeller  # lazy import: slow

    labeller = Labeller(config)
    failed, is_first = False, True
    for file in config.files:
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                rows = labeller.label(file)
        except (DecodeError, SourceError) as error:
            log.error(f"not labelled: {error}")
            failed = True
            continue
        for warning in caught:
            log.warning(f"warning: {warning.message}")
        print(text_of(rows, file, config.format, is_first), end="", flush=True)
        is_first = False
    return int(failed)


def text_of(rows: pd.DataFrame, file: str, form: str, is_first: bool) -> str:
    """Return the rows of one file as a table, csv or jsonl; is_first: whether to print the csv header.

    rows: as `Labeller.label` returns them. start_s and end_s are in seconds.
    """
    flat = rows.reset_index().rename(columns={"file": "recording_uri", "start": "start_s", "end": "end_s"})
    for name in ("start_s", "end_s"):
        flat[name] = flat[name].dt.total_seconds().round(3)
    if form == "jsonl":
        lines = (flat.to_json(orient="records", lines=True, force_ascii=False) or "") if len(flat) else ""
        return lines.replace(r"\/", "/")  # pandas escapes every slash
    if form == "csv":
        return flat.to_csv(index=False, header=is_first)
    shown = ["start_s", "end_s", "label", "confidence", *(name for name in flat if name.startswith("p_"))]
    body = flat[shown].to_string(index=False, float_format="%.2f") if len(flat) else "no speech"
    return f"{'' if is_first else chr(10)}{file}\n{body}\n"
