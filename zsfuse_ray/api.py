"""Label files and waveforms in Python, without Ray: what ``zsfuse score`` computes, one file at a time."""

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
from zsfuse_ray.archive.heads import described, facts_of_spec, head_of, identified, warn_of_head
from zsfuse_ray.archive.listing import list_recording
from zsfuse_ray.archive.normalise import SPEAKER
from zsfuse_ray.archive.packing import embeddings_of_bundle, unpack_values
from zsfuse_ray.archive.passes import ToEncode
from zsfuse_ray.archive.probing import probe_recordings, with_headers
from zsfuse_ray.archive.schemas import BUNDLE, BUNDLE_WITH_TURNS, kind_of, model_columns
from zsfuse_ray.archive.stages.decode import decode_bundles
from zsfuse_ray.archive.stages.encode import Encode, EncodeOptions
from zsfuse_ray.archive.texts import TEXT, find_transcripts, with_texts
from zsfuse_ray.archive.wanted import identity, trained_fusion, with_normalise
from zsfuse_ray.audio.decode import DecodeError
from zsfuse_ray.audio.levels import full_scale
from zsfuse_ray.audio.sources import SourceError
from zsfuse_ray.config.label import LabellerOptions
from zsfuse_ray.config.options import load_config
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labelling import label_columns, outside_share
from zsfuse_ray.method.labels import dropped_warning
from zsfuse_ray.method.normalise import normalised


class Labeller:
    """Models in memory that label one file or waveform after the other.

        labeller = Labeller.from_preset("mini", labels=["angry", "happy", "sad", "neutral"])
        labeller.label("talk.mp3")

    Options are those of ``zsfuse label``; the rows are those of the segments table of ``zsfuse score``, up to
    float16 rounding (1e-3).
    """

    def __init__(self, config: LabellerOptions, device: str | None = None) -> None:
        """device: "cpu" or "cuda", by default a GPU if torch finds one."""
        if config.normalise == "speaker" and not config.speakers:
            raise InputError(
                "--normalise speaker needs --speakers or an archive with speakers; one file has "
                "--normalise recording"
            )
        specs = model_specs(config)
        self.config = config = with_normalise(config, specs, [SPEAKER] if config.speakers else ())
        head = head_of(config, facts_of_spec(specs["specialist"]) if "specialist" in specs else None)
        warn_of_head(head, self.config.normalise)
        trained = trained_fusion(config, identified({k: identity(spec) for k, spec in specs.items()}, head))
        gpu = torch.cuda.is_available() if device is None else torch.device(device).type == "cuda"
        loaded = load_models(specs, {key: key for key in specs}, config)
        self._facts = loaded.facts
        self._transcripts = find_transcripts(config.transcripts)
        facts = described(loaded.facts, head)
        self._labelling = make_labelling(
            config, facts, loaded.prompts, loaded.readout, head and head.head, trained
        )
        repeats = {"alm": config.audio_repeats, "specialist": ()}
        self._encode = Encode(
            {key: ToEncode(spec, repeats[key]) for key, spec in specs.items()},
            tuple(specs),
            EncodeOptions(config.long, config.crop, config.batch_s, config.precision),
            gpu,
            torch.get_num_threads(),
            last=True,
        )

    @classmethod
    def from_preset(cls, preset: str = "mini", *, device: str | None = None, **options: Any) -> "Labeller":
        """Load the models of a preset; options, such as labels, weight or alm, override it.

        InputError for an unknown preset, option, label or model.
        """
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
        }
        config, _ = load_config(LabellerOptions, preset, **values)
        return cls(config, device)

    def label(self, audio: str | Path | ArrayLike, sample_rate: int | None = None) -> pd.DataFrame:
        """Return one row per segment of speech: label, confidence, entropy, the posteriors, speech_prob.

        audio: a file (a path or URI), whose rows are indexed by (file, start, end), as in audformat's
        segmented index; or a waveform at sample_rate in Hz, floats in [-1, 1] or int16, shape (samples,) or
        (channels, samples), whose rows are indexed by (start, end). start and end are timedeltas. Without
        speech there are no rows. DecodeError or SourceError for a file that cannot be read; the readable part
        of a truncated file is labelled, with a warning. Another one if much of the specialist's probability
        is on labels outside the label set.
        """
        if isinstance(audio, str | Path):
            if sample_rate is not None:
                raise InputError("sample_rate is for waveforms only; a file has its own")
            return self._label_file(os.fspath(audio))
        if sample_rate is None:
            raise InputError("a waveform needs its sample_rate: label(waveform, 16000)")
        with tempfile.TemporaryDirectory() as folder:  # decoded like any file
            path = Path(folder) / "waveform.wav"
            _write_wav(path, np.asarray(audio), sample_rate)
            return self._label_file(str(path)).droplevel("file")

    def label_files(self, files: Iterable[str | Path]) -> pd.DataFrame:
        """Return the concatenated rows of several files; warns about a file that cannot be read."""
        frames = []
        for file in files:
            try:
                frames.append(self.label(file))
            except (DecodeError, SourceError) as error:
                warnings.warn(f"not labelled: {error}", stacklevel=2)
        return pd.concat(frames) if frames else self._rows("", [], [])

    def _label_file(self, file: str) -> pd.DataFrame:
        encoded, segments = [], []
        for bundle in self._bundles(file):
            decoded = self._decoded(bundle)
            for outcome in decoded["items"].to_pylist()[0]:
                if outcome["reason"] == "truncated" or (outcome["reason"] is None and outcome["message"]):
                    warnings.warn(f"{file}: {outcome['message']}", stacklevel=3)
                elif outcome["reason"] is not None:
                    raise DecodeError(outcome["reason"], f"{file}: {outcome['message']}")
            if own := decoded["segments"].to_pylist()[0]:
                encoded.append(self._encode(decoded))
                segments += own
        return self._rows(file, segments, encoded)

    def _decoded(self, bundle: pa.Table) -> pa.Table:
        threads = torch.get_num_threads()
        try:
            return decode_bundles(bundle, self.config.segmentation, self.config.item_s)
        finally:  # decode_bundles sets one thread, as archives are decoded on all cores
            torch.set_num_threads(threads)

    def _bundles(self, file: str) -> Iterator[pa.Table]:
        """Yield the bundles of the file's items, cut as in a plan."""
        row = list_recording(file, self.config.speakers)
        for name in ("recording_id", "plan_part"):
            row = row.append_column(name, pa.array([0], pa.int64()))
        headers = probe_recordings(row)
        if (reason := headers["reason"][0].as_py()) is not None:
            raise DecodeError(reason, f"{file}: {headers['message'][0].as_py()}")
        schema = BUNDLE_WITH_TURNS if self.config.speakers else BUNDLE
        for bundle in bundle_items(with_headers(row, headers), self.config.item_s):
            yield pa.Table.from_pylist([bundle], schema=schema)

    def _rows(self, file: str, segments: list[dict[str, Any]], encoded: list[pa.Table]) -> pd.DataFrame:
        values = self._values(encoded)
        finite = np.ones(len(segments), bool)
        for array in values:
            if array is not None:
                finite &= np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
        if not finite.all():
            dropped = int((~finite).sum())
            warnings.warn(f"{file}: {dropped} segments left out: non-finite model outputs", stacklevel=4)
        embeddings, logits, vectors = (None if array is None else array[finite] for array in values)
        if self.config.normalise != "none" and vectors is not None and len(vectors):
            by = ["channel", "speaker"] if self.config.normalise == "speaker" else ["channel"]
            own = (segment for segment, kept in zip(segments, finite, strict=True) if kept)
            vectors = normalised(vectors, [" ".join(str(one[name]) for name in by) for one in own])
        columns = label_columns(self._labelling, embeddings, logits, vectors)
        outside = outside_share(self._labelling, logits, vectors)
        if outside is not None and len(outside):
            own = self._labelling.specialist_labels or ()
            if line := dropped_warning(float(outside.mean()), own, self._labelling.labels):
                warnings.warn(f"{file}: {line}", stacklevel=4)
        kept = [segment for segment, kept in zip(segments, finite, strict=True) if kept]
        times = [
            pd.to_timedelta(np.array([segment[name] for segment in kept], float), unit="s")
            for name in ("start_s", "end_s")
        ]
        index = pd.MultiIndex.from_arrays([[file] * len(kept), *times], names=["file", "start", "end"])
        frame = pd.DataFrame(columns, index=index)
        if self.config.channels != "mix":
            frame["channel"] = np.array([segment["channel"] for segment in kept], np.int32)
        if self.config.speakers:
            frame["speaker"] = pd.array([segment["speaker"] for segment in kept], "str")
            frame["overlap"] = np.array([segment["overlap"] for segment in kept], np.float32)
        if self._transcripts is not None:
            frame["text"] = self._texts(file, kept)
        frame["speech_prob"] = np.array([segment["speech_prob"] for segment in kept], np.float32)
        return frame.sort_index()

    def _texts(self, file: str, segments: list[dict[str, Any]]) -> list[str | None]:
        """The transcript of each segment; None without one, with a warning if it cannot be read."""
        assert self._transcripts is not None
        n = len(segments)
        order = sorted(range(n), key=lambda k: segments[k]["start_s"])
        columns: dict[str, Any] = {
            name: [segments[k][name] for k in order] for name in ("start_s", "end_s", "channel")
        }
        if self.config.channels == "mix":
            del columns["channel"]
        table = pa.table(
            {"recording_id": pa.array([0] * n, pa.int64()), **columns, TEXT: pa.nulls(n, pa.string())}
        )
        recording = pa.table({"recording_id": [0], "uri": [file]})
        table, problems = with_texts(table, recording, self._transcripts)
        for problem in problems.values():
            warnings.warn(f"{file}: {problem}", stacklevel=5)
        texts = dict(zip(order, table[TEXT].to_pylist(), strict=True))
        return [texts[k] for k in range(n)]

    def _values(self, encoded: list[pa.Table]) -> tuple[NDArray[np.float32] | None, ...]:
        """Embeddings, logits and vectors of the segments of encoded bundles; None without that model."""
        embeddings = logits = vectors = None
        for key, facts in self._facts.items():
            first, second = model_columns(key)
            if kind_of(key) == "alm":
                empty = np.empty((0, len(self.config.audio_repeats), facts["dim"]), np.float32)
                embeddings = np.concatenate([empty, *(_embeddings(row, first, second) for row in encoded)])
                continue
            columns = pa.table({name: pa.chunked_array([], pa.large_binary()) for name in (first, second)})
            columns = pa.concat_tables([columns, *(row.select([first, second]) for row in encoded)])
            logits = unpack_values(columns[first], len(facts["labels"]))
            if facts["vector_dim"]:
                vectors = unpack_values(columns[second], facts["vector_dim"])
        return embeddings, logits, vectors


def _embeddings(row: pa.Table, embeddings: str, inputs: str) -> NDArray[np.float32]:
    segments = len(row["segments"].to_pylist()[0])
    return embeddings_of_bundle(row[embeddings][0].as_py(), row[inputs][0].as_py(), segments)


def _write_wav(path: Path, samples: NDArray[Any], sample_rate: int) -> None:
    """Write (samples,) or (channels, samples) as 16-bit WAV; InputError for another shape or type."""
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[0] > samples.shape[1]):
        raise InputError(f"a waveform has shape (samples,) or (channels, samples), not {samples.shape}")
    if samples.dtype != np.int16:
        if samples.dtype.kind != "f":
            raise InputError(f"a waveform has floats in [-1, 1] or int16, not {samples.dtype}")
        if (scale := full_scale(samples)) != 1.0:
            warnings.warn(f"the waveform's full scale is {scale:.0f}, not 1.0: divided by it", stacklevel=4)
        samples = (np.clip(np.nan_to_num(samples) / scale, -1, 1) * 32767).round().astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[0])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.ascontiguousarray(samples.T).astype("<i2").tobytes())
