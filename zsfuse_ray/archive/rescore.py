"""One run of ``jobs/score.py --embeddings``: labels from an embedding table, without audio, GPU or Ray.

The tables are those that a run over the audio with the same options would write.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.archive.describe import check_labels, is_model, make_scorer, model_specs, prompts
from zsfuse_ray.archive.embeddings import StoredEmbeddings, open_embeddings
from zsfuse_ray.archive.fuse_stage import Scorer
from zsfuse_ray.archive.listing import carry
from zsfuse_ray.archive.run import verdict
from zsfuse_ray.archive.saying import say_models, summary
from zsfuse_ray.archive.summaries import label_shares, summarise_recordings
from zsfuse_ray.archive.tables import PLACED, planned_recordings
from zsfuse_ray.config.models import OF_TABLE
from zsfuse_ray.config.options import build, recorded, resolved
from zsfuse_ray.config.score import DECIDED, OPERATIONAL, ScoreConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.fusion import entropy
from zsfuse_ray.method.labels import column
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.catalog import UNTRAINED, Kind, load, parse_spec
from zsfuse_ray.models.checkpoints.load import resolve
from zsfuse_ray.runs.folder import RECORDINGS, REJECTS, RUN, SEGMENTS, Output
from zsfuse_ray.runs.ownership import refuse_other_config
from zsfuse_ray.runs.provenance import git_revision, versions

SAY_EVERY_S = 15.0


def rescore(config: ScoreConfig, preset: str) -> int:
    """Label what a table holds. Returns the exit code: 0, or 1 where more failed than is allowed."""
    stored = open_embeddings(str(config.embeddings))
    config, keys = with_tables_options(config, stored)
    places = stored.places(keys["alm"], config.audio_repeats) if "alm" in keys else ()
    out = Output.open(config.output)
    if out.fs == stored.out.fs and os.path.realpath(out.root) == os.path.realpath(stored.out.root):
        raise InputError(f"--output {out.uri} is the embedding table itself; use another")
    # a table made anew in the same place is another one
    table = hashlib.sha256(json.dumps(stored.run, sort_keys=True).encode()).hexdigest()[:12]
    decides = {k: v for k, v in recorded(config).items() if k not in OPERATIONAL}
    decides |= {"embeddings": stored.out.uri, "table": table}
    run = None
    if not config.overwrite:
        run = out.read_json(RUN)
        if run is not None:
            refuse_other_config(out, run["config"], decides)
        else:
            out.refuse_strangers()
    if run is not None and run["status"] == "complete":
        print(f"{out.uri} is complete; nothing to do", file=sys.stderr)
    else:
        figures = say_models(config, preset)
        scorer, models = _prepare(config, stored, keys)
        if config.overwrite:  # not before everything that may be wrong with the command was looked at
            out.clear()
        run = {"versions": versions(), "git": git_revision(), "preset": preset, "config": decides}
        run |= {"models": models} | ({"measured": figures} if figures else {})
        out.write_json(RUN, run | {"status": "started"})
        run |= _work(out, stored, scorer, keys, places)
        if "alm" in models:
            known = stored.run["effective_repetition"][keys["alm"]]
            run["effective_repetition"] = {str(a): known[str(a)] for a in config.audio_repeats}
        out.write_json(RUN, run | {"status": "complete"})
    print(summary(run, out.uri), flush=True)
    return verdict(run["counts"], config.max_reject_rate)


def with_tables_options(config: ScoreConfig, stored: StoredEmbeddings) -> tuple[ScoreConfig, dict[str, str]]:
    """The configuration with the table's models and what it has decided; which of the table's models it uses.

    InputError for a model that the table was made without: of another revision, wherever it may lie.
    """
    values: dict[str, Any] = {name: stored.run["config"][name] for name in DECIDED}
    keys: dict[str, str] = {}
    kinds: tuple[Kind, ...] = ("alm", "specialist")
    for kind in kinds:
        wanted = getattr(config, kind)
        if (key := key_of(kind, wanted, stored)) is not None:
            keys[kind] = key
        if wanted == OF_TABLE:
            values[kind] = stored.models[key]["model"] if key else "none"
    return build(ScoreConfig, resolved(config) | values), keys


def key_of(kind: Kind, wanted: str, stored: StoredEmbeddings) -> str | None:
    """The name of a model in the table: of OF_TABLE its first of the kind; None for none.

    InputError for one that the table was made without.
    """
    own = stored.of_kind(kind)
    if wanted == OF_TABLE:
        return own[0] if own else None
    if wanted == "none":
        return None
    if not own:
        raise InputError(f"--{kind} {wanted}: {stored.out.uri} was made without one; use --{kind} none")
    by_name = next((key for key in own if stored.models[key]["model"] == wanted), None)
    if by_name and kind == "specialist":
        return by_name  # it is not needed any more
    spec = parse_spec(wanted, kind)
    if found := next((key for key in own if is_model(spec, stored.models[key])), None):
        return found
    revision = "" if spec.checkpoint == UNTRAINED else f" of revision {resolve(spec.checkpoint).revision}"
    raise _other_model(kind, f"{spec}{revision}", stored)


def _other_model(kind: str, found: str, stored: StoredEmbeddings) -> InputError:
    made = ", ".join(
        f"{about['model']} of revision {about['revision']}"
        for about in (stored.models[key] for key in stored.of_kind(kind))
    )
    return InputError(f"{stored.out.uri} was made with --{kind} {made}, not {found}; embed with it first")


def _prepare(
    config: ScoreConfig, stored: StoredEmbeddings, keys: Mapping[str, str]
) -> tuple[Scorer, dict[str, Any]]:
    """The Scorer of the table, and what run.json says of the models; only the ALM is loaded, for its text."""
    about = {kind: stored.models[key] for kind, key in keys.items()}
    known = about["specialist"]["labels"] if "specialist" in about else None
    if known is not None:
        check_labels(config, known)
    text, scale = None, 1.0
    if spec := model_specs(config).get("alm"):
        model = load(spec)
        if not isinstance(model, AudioLanguageModel) or model.revision != about["alm"]["revision"]:
            raise _other_model("alm", f"{spec} of revision {model.revision}", stored)
        text, about_prompts = prompts(model, config)
        scale = model.scale
        about["alm"] = about["alm"] | about_prompts
    return make_scorer(config, text, scale, known), about


def _work(
    out: Output, stored: StoredEmbeddings, scorer: Scorer, keys: Mapping[str, str], places: Sequence[int]
) -> dict[str, Any]:
    """Write the tables; return what run.json says of the work."""
    started = time.monotonic()
    for name in (SEGMENTS, RECORDINGS, REJECTS):
        out.delete(name)
    told = _Told(stored.run["counts"]["segments"])
    for file in stored.files():
        labelled = label_file(stored, file, scorer, keys, places, told)
        out.write_tables(f"{SEGMENTS}/{file.rsplit('/', 1)[1]}", labelled)
    planned = planned_recordings(stored.out)
    playable = planned.filter(planned["probe_reason"].is_null())
    heard_s = stored.out.read_table(RECORDINGS, ["duration_s"])["duration_s"]
    done = pa.table({"recording_id": playable["recording_id"], "audio_s": heard_s})
    recordings = summarise_recordings(out, planned, done, scorer.labels)
    out.write_table(f"{RECORDINGS}/recordings.parquet", recordings.drop_columns(["recording_id"]))
    out.write_table(f"{REJECTS}/rejects.parquet", stored.out.read_table(REJECTS))
    # the models heard nothing this time
    counts = {"label_shares": label_shares(recordings, scorer.labels), "encoder_inputs": 0}
    wall_s = time.monotonic() - started
    time_spent = {"wall_s": wall_s, "segments_per_s": told.segments / wall_s, "device": "cpu"}
    return {"counts": stored.run["counts"] | counts, "time": time_spent}


class _Told:
    """Prints how many segments are done, every SAY_EVERY_S seconds."""

    def __init__(self, total: int) -> None:
        self.total, self.segments, self.last = total, 0, time.monotonic()

    def add(self, segments: int) -> None:
        self.segments += segments
        if time.monotonic() - self.last >= SAY_EVERY_S:
            self.last = time.monotonic()
            print(f"{self.segments:,} of {self.total:,} segments", file=sys.stderr, flush=True)


def label_file(
    stored: StoredEmbeddings,
    file: str,
    scorer: Scorer,
    keys: Mapping[str, str],
    places: Sequence[int],
    told: _Told,
) -> Iterator[pa.Table]:
    """Rows of the segments table for those of one of the table's files, piece by piece.

    keys: which of the table's models are used, by kind; places: of the audio repeats, among the ALM's own.
    """
    for flat, heard in stored.batches(file, list(keys.values())):
        audio = heard.alms[keys["alm"]].audio(places) if "alm" in keys else None
        yield label(flat, audio, heard.logits.get(keys.get("specialist", "")), scorer)
        told.add(len(flat))


def label(
    flat: pa.Table, audio: NDArray[np.float32] | None, logits: NDArray[np.float32] | None, scorer: Scorer
) -> pa.Table:
    """Flat columns of some segments, embeddings (n, A, D) and logits of them → rows of the segments table."""
    fused, specialist, alm = scorer.posteriors(audio, logits)
    best = fused.argmax(axis=1)
    columns: dict[str, Any] = {name: flat[name] for name in PLACED}
    columns["label"] = pa.array(scorer.labels, pa.string()).take(pa.array(best))
    columns["confidence"] = pa.array(fused[np.arange(len(best)), best].astype(np.float32))
    columns["entropy"] = pa.array(entropy(fused).astype(np.float32))
    parts = {"p": fused, "specialist": specialist, "alm": alm}
    for part, posteriors in parts.items():
        if posteriors is not None:
            for i, name in enumerate(scorer.labels):
                if part != "specialist" or scorer.inside[i]:
                    columns[f"{part}_{column(name)}"] = pa.array(posteriors[:, i].astype(np.float32))
    carry(columns, flat.drop_columns(list(PLACED)))
    return pa.table(columns)
