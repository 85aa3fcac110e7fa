"""Label files and waveforms in Python, without Ray: what ``zsfuse score`` computes, a file at a time."""

import os
import tempfile
import warnings
import wave
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import ArrayLike, NDArray

from zsfuse_ray.archive.bundles import bundle_items
from zsfuse_ray.archive.describe import load_models, make_labelling, model_specs
from zsfuse_ray.archive.listing import list_archive
from zsfuse_ray.archive.packing import embeddings_of_bundle, unpack_values
from zsfuse_ray.archive.passes import ToEncode
from zsfuse_ray.archive.probing import probe_recordings, with_headers
from zsfuse_ray.archive.schemas import BUNDLE, kind_of, model_columns
from zsfuse_ray.archive.stages.decode import decode_bundles
from zsfuse_ray.archive.stages.encode import Encode, EncodeOptions
from zsfuse_ray.audio.decode import DecodeError
from zsfuse_ray.config.options import load_config
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labelling import label_columns

_NOWHERE = {"input": "-", "output": "-"}  # options of an archive, which a Labeller has no use for


class Labeller:
    """Models in memory that label one file or waveform after the other.

        labeller = Labeller.from_preset("mini", labels=["angry", "happy", "sad", "neutral"])
        labeller.label("talk.mp3")

    Options are those of ``zsfuse score``; the rows are those of its segments table (equal to 1e-3 where what
    it keeps in float16 rounds the other way).
    """

    def __init__(self, config: ScoreConfig, device: str | None = None) -> None:
        """device: "cpu" or "cuda", by default a GPU where torch finds one."""
        self.config = config
        gpu = torch.cuda.is_available() if device is None else torch.device(device).type == "cuda"
        specs = model_specs(config)
        self._facts, prompts = load_models(specs, "alm", config)
        self._labelling = make_labelling(config, self._facts, prompts)
        self._threads = torch.get_num_threads()
        repeats = {"alm": config.audio_repeats, "specialist": ()}
        self._encode = Encode(
            {key: ToEncode(spec, repeats[key]) for key, spec in specs.items()},
            tuple(specs),
            EncodeOptions(config.long, config.crop, config.batch_s, config.precision),
            gpu,
            self._threads,
            last=True,
        )

    @classmethod
    def from_preset(cls, preset: str = "mini", *, device: str | None = None, **options: Any) -> "Labeller":
        """Load the models of a preset; options, such as labels, weight or alm, override it.

        InputError for an unknown preset, option, label or model.
        """
        if taken := _NOWHERE.keys() & options.keys():
            raise InputError(f"a Labeller has no {min(taken)}: it labels what label() is given")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
        }
        config, _ = load_config(ScoreConfig, preset, **_NOWHERE, **values)
        return cls(config, device)

    def label(self, audio: str | Path | ArrayLike, sample_rate: int | None = None) -> pd.DataFrame:
        """Return a row for each segment of speech: label, confidence, entropy, the posteriors, speech_prob.

        audio: a file (a path or URI), whose rows are indexed by (file, start, end), as audformat's segmented
        index is; or a waveform at sample_rate in Hz, floats in [-1, 1] or int16, shape (samples,) or
        (channels, samples), whose rows are indexed by (start, end). start and end are timedeltas. Without
        speech there are no rows. DecodeError or SourceError for a file that cannot be read; what breaks off
        is labelled as far as it goes, with a warning.
        """
        if isinstance(audio, str | Path):
            if sample_rate is not None:
                raise InputError("sample_rate belongs to a waveform; a file has its own")
            return self._label_file(os.fspath(audio))
        if sample_rate is None:
            raise InputError("a waveform needs its sample_rate: label(waveform, 16000)")
        with tempfile.TemporaryDirectory() as folder:  # as a file it takes the road of all files
            path = Path(folder) / "waveform.wav"
            _write_wav(path, np.asarray(audio), sample_rate)
            return self._label_file(str(path)).droplevel("file")

    def label_files(self, files: Iterable[str | Path]) -> pd.DataFrame:
        """Return the rows of several files below each other; one that cannot be read is a warning."""
        frames = []
        for file in files:
            try:
                frames.append(self.label(file))
            except DecodeError as error:
                warnings.warn(f"not labelled: {error}", stacklevel=2)
        return pd.concat(frames) if frames else _frame("", pa.table({}), self._columns([]))

    def _label_file(self, file: str) -> pd.DataFrame:
        encoded, segments = [], []
        for bundle in self._bundles(file):
            decoded = decode_bundles(bundle, self.config.segmentation, self.config.item_s)
            torch.set_num_threads(self._threads)  # decoding takes one: an archive decodes on all cores
            for outcome in decoded["items"].to_pylist()[0]:
                if outcome["reason"] == "truncated":
                    warnings.warn(f"{file}: {outcome['message']}", stacklevel=3)
                elif outcome["reason"] is not None:
                    raise DecodeError(outcome["reason"], f"{file}: {outcome['message']}")
            if decoded["segments"].to_pylist()[0]:
                encoded.append(self._encode(decoded))
                segments += decoded["segments"].to_pylist()[0]
        return _frame(file, pa.Table.from_pylist(segments), self._columns(encoded))

    def _bundles(self, file: str) -> Iterator[pa.Table]:
        """The file's items as a plan cuts them, one bundle after the other."""
        row = list_archive(file)
        if len(row) != 1:
            raise InputError(f"{file}: {len(row)} recordings; label one, or all of them with zsfuse score")
        for name in ("recording_id", "plan_part"):
            row = row.append_column(name, pa.array([0], pa.int64()))
        headers = probe_recordings(row)
        if (reason := headers["reason"][0].as_py()) is not None:
            raise DecodeError(reason, f"{file}: {headers['message'][0].as_py()}")
        for bundle in bundle_items(with_headers(row, headers), self.config.item_s):
            yield pa.Table.from_pylist([bundle], schema=BUNDLE)

    def _columns(self, encoded: list[pa.Table]) -> dict[str, NDArray[Any]]:
        """`label_columns` of encoded bundles."""
        values: dict[str, NDArray[Any] | None] = {"alm": None, "specialist": None, "vectors": None}
        for key, facts in self._facts.items():
            first, second = model_columns(key)
            if kind_of(key) == "alm":
                none = np.empty((0, len(self.config.audio_repeats), facts["dim"]), np.float32)
                values[key] = np.concatenate([none, *(_embeddings(row, first, second) for row in encoded)])
                continue
            columns = pa.table({name: pa.chunked_array([], pa.large_binary()) for name in (first, second)})
            columns = pa.concat_tables([columns, *(row.select([first, second]) for row in encoded)])
            values[key] = unpack_values(columns[first], len(facts["labels"]))
            if facts["vector_dim"]:
                values["vectors"] = unpack_values(columns[second], facts["vector_dim"])
        return label_columns(self._labelling, values["alm"], values["specialist"], values["vectors"])


def _embeddings(row: pa.Table, embeddings: str, inputs: str) -> NDArray[np.float32]:
    segments = len(row["segments"].to_pylist()[0])
    return embeddings_of_bundle(row[embeddings][0].as_py(), row[inputs][0].as_py(), segments)


def _frame(file: str, segments: pa.Table, columns: dict[str, NDArray[Any]]) -> pd.DataFrame:
    names = ("start_s", "end_s", "speech_prob")
    start, end, probability = (np.array(segments[name] if len(segments) else [], float) for name in names)
    times = [pd.to_timedelta(values, unit="s") for values in (start, end)]
    index = pd.MultiIndex.from_arrays([[file] * len(start), *times], names=["file", "start", "end"])
    frame = pd.DataFrame(columns, index=index)
    frame["speech_prob"] = probability.astype(np.float32)
    return frame.sort_index()


def _write_wav(path: Path, samples: NDArray[Any], sample_rate: int) -> None:
    """Write (samples,) or (channels, samples) as 16-bit WAV; InputError for what is no waveform."""
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[0] > samples.shape[1]):
        raise InputError(f"a waveform has shape (samples,) or (channels, samples), not {samples.shape}")
    if samples.dtype != np.int16:
        if samples.dtype.kind != "f":
            raise InputError(f"a waveform is of floats in [-1, 1] or int16, not {samples.dtype}")
        samples = (np.clip(np.nan_to_num(samples), -1, 1) * 32767).round().astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[0])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.ascontiguousarray(samples.T).astype("<i2").tobytes())
