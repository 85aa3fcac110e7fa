"""One run of ``jobs/embed.py``: as a run of score, but what the models say is kept instead of fused.

Run again with another model or more copies of the audio, it hears the archive again and computes just these.
The table stays as it was, and can be used, until the larger one is whole: run.json names its folder.
"""

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.exceptions
from numpy.typing import NDArray

from zsfuse_ray.archive.describe import describe_models, hearing, is_model, model_specs
from zsfuse_ray.archive.embeddings import EMBEDDINGS, open_embeddings
from zsfuse_ray.archive.encode_stage import Hear
from zsfuse_ray.archive.known import Known
from zsfuse_ray.archive.layout import Layout, packed_columns, table_columns
from zsfuse_ray.archive.listing import carry, list_archive
from zsfuse_ray.archive.pack_stage import Front, Pack, rows_of
from zsfuse_ray.archive.plan import existing_plan
from zsfuse_ray.archive.rows import kind_of
from zsfuse_ray.archive.run import Work, hear_archive, repetition, run_archive, stopped, verdict
from zsfuse_ray.archive.saying import hours, reject_lines, repetition_of_audio, say_models
from zsfuse_ray.archive.tables import BY_TIME, compact_as, fixed, placed
from zsfuse_ray.config.embed import EmbedConfig
from zsfuse_ray.config.options import recorded
from zsfuse_ray.config.score import OPERATIONAL
from zsfuse_ray.errors import InputError
from zsfuse_ray.runs import cluster
from zsfuse_ray.runs.folder import CHECKPOINT, ITEMS, RUN, Output
from zsfuse_ray.runs.ownership import refuse_other_config
from zsfuse_ray.runs.provenance import versions

PREPROCESSING = 1  # counts up when the same audio gives models another input: decoding, speech, resampling
EXTENDING = "extending.json"  # what is being added to a table, while it is
# A dictionary of floats is a waste of time; the groups bound what a reader holds.
PARQUET = {"use_dictionary": ["recording_uri"], "row_group_size": 8192}
MODELS = ("alm", "specialist", "audio_repeats")  # options of which a table takes more


def embed(config: EmbedConfig, preset: str) -> int:
    """Embed an archive. Returns the exit code: 0, or 1 where more failed than ``max_reject_rate`` allows."""
    out = Output.open(config.output)
    run = out.read_json(RUN)
    if out.exists(EMBEDDINGS) and EMBEDDINGS not in (run or {}):
        raise InputError(
            f"{out.uri}/{EMBEDDINGS} is there already and of no embedding table; use another --output"
        )
    if run and EMBEDDINGS in run and run["status"] == "complete" and not config.overwrite:
        return _extend(config, preset, out, run)
    code = run_archive(config, preset, _first, summary)
    if (out.read_json(RUN) or {}).get("status") == "complete":
        _tidy(out)
    return code


def _first(config: EmbedConfig) -> Work:
    hear = hearing(config)
    models = describe_models(hear)
    kept = {"dtype": config.dtype, "preprocessing": PREPROCESSING, "folder": EMBEDDINGS}
    return _work(config, models, kept, hear)


def _work(
    config: EmbedConfig,
    models: dict[str, Any],
    kept: dict[str, Any],
    hear: Mapping[str, Hear],
    known: Known | None = None,
) -> Work:
    layout = Layout.of(models, kept)
    seeded = config.crop == "seeded"
    fronts = {
        key: Front(about["sample_rate"], about["window"], about["fill"], config.long, seeded)
        for key, about in models.items()
    }
    tables = partial(_tables, config=config, models=models, folder=kept["folder"], layout=layout)
    return Work(Pack(layout, hear, fronts, known), {"models": models, EMBEDDINGS: kept}, tables, hear)


def _tables(
    out: Output, config: EmbedConfig, models: Mapping[str, Any], folder: str, layout: Layout
) -> dict[str, Any]:
    counts = compact_as(out, (), folder, layout.schema, partial(flatten, layout=layout), **PARQUET)
    effective = {
        key: repetition(out, config, about, about["audio_repeats"])
        for key, about in models.items()
        if kind_of(key) == "alm"
    }
    return {"counts": counts, "effective_repetition": effective}


def flatten(rows: pa.Table, planned: pa.Table, layout: Layout) -> pa.Table:
    """Rows of items/ → the embedding table, by recording and time."""
    columns, _, source = placed(rows, planned)
    for key, part in layout.parts.items():
        packed = [b"".join(rows[name].to_pylist()) for name in packed_columns(key)]
        if kind_of(key) == "specialist":
            columns[table_columns(key)[0]] = fixed(rows_of(packed[0], np.float32, part.size))
            continue
        embeddings = rows_of(packed[0], layout.dtype, part.size)
        inputs = rows_of(packed[1], np.int8, len(part.audio_repeats))
        ends = np.cumsum(inputs.max(axis=1, initial=-1).astype(np.int64) + 1)
        of_embeddings, of_inputs = table_columns(key)
        columns[of_embeddings] = _lists(ends, fixed(embeddings))
        ends = inputs.shape[1] * np.arange(1, len(inputs) + 1)
        columns[of_inputs] = _lists(ends, pa.array(inputs.ravel()))
    carry(columns, source)
    return pa.table(columns).sort_by(BY_TIME)


def _lists(ends: NDArray[np.int64], values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.append(0, ends), pa.int32()), values)


def _extend(config: EmbedConfig, preset: str, out: Output, run: dict[str, Any]) -> int:
    """Add to a complete table what it lacks of what is asked for."""
    listing = list_archive(config.input)
    decides = {k: v for k, v in recorded(config).items() if k not in OPERATIONAL | set(MODELS)}
    refuse_other_config(out, run["config"], decides)
    plan = existing_plan(config, out, listing)
    _finish_tidying(out, run)
    hear = lacking(config, run)
    if not hear:
        print(f"{out.uri} is complete; nothing to do", file=sys.stderr)
        print(summary(run, out.uri), flush=True)
        return verdict(run["counts"], config.max_reject_rate)
    if plan is None or run[EMBEDDINGS]["preprocessing"] != PREPROCESSING:
        why = "its plan is gone" if plan is None else "a version that heard audio differently made it"
        raise InputError(f"{out.uri} cannot be extended: {why}; use another --output or --overwrite")
    folder = EMBEDDINGS if run[EMBEDDINGS]["folder"] != EMBEDDINGS else f"{EMBEDDINGS}2"
    wanted = {key: [str(one.spec), *map(str, one.audio_repeats)] for key, one in hear.items()}
    begun = out.read_json(EXTENDING)
    if begun is not None and begun["hear"] != wanted:
        names = ", ".join(begun["hear"][key][0] for key in begun["hear"])
        raise InputError(f"{out.uri} is being extended by {names}; run that command again, to its end, first")
    say_models(config, preset)
    own_ray = cluster.connect(config.ray_address, streams=True)
    pools = cluster.pools(config, ray.cluster_resources(), cluster.worker_nodes(), tuple(hear))
    fresh = {key: one for key, one in hear.items() if key not in run["models"]}
    models = {**run["models"], **describe_models(fresh)}
    for key, one in hear.items():
        if one.known:
            models[key] = models[key] | {"audio_repeats": [*one.known, *one.audio_repeats]}
    kept = run[EMBEDDINGS] | {"folder": folder}
    work = _work(config, models, kept, hear, Known.by(open_embeddings(out.uri)))
    if begun is None:
        out.write_json(EXTENDING, {"versions": versions(), "hear": wanted, "folder": folder})
    try:
        found = hear_archive(config, out, plan, pools, own_ray, work)
    except ray.exceptions.RayError as error:
        print(stopped(error), file=sys.stderr)
        return 1
    found["counts"]["encoder_inputs"] += run["counts"]["encoder_inputs"]
    run = run | found | {"models": models, EMBEDDINGS: kept, "versions": versions()}
    out.write_json(RUN, run)
    _finish_tidying(out, run)
    print(summary(run, out.uri), flush=True)
    return verdict(run["counts"], config.max_reject_rate)


def lacking(config: EmbedConfig, run: Mapping[str, Any]) -> dict[str, Hear]:
    """What a table lacks of what is asked for, by the models' names in the table."""
    found: dict[str, Hear] = {}
    for name, spec in model_specs(config).items():
        kind = kind_of(name)
        own = [key for key in run["models"] if kind_of(key) == kind]
        key = next((key for key in own if is_model(spec, run["models"][key])), None)
        if key is None:
            number = len({*own, *(k for k in found if kind_of(k) == kind)}) + 1
            key = kind if number == 1 else f"{kind}{number}"
            found[key] = Hear(spec, config.audio_repeats if kind == "alm" else ())
        elif kind == "alm":
            known = tuple(run["models"][key]["audio_repeats"])
            if new := tuple(a for a in config.audio_repeats if a not in known):
                found[key] = Hear(spec, new, known)
    return found


def _tidy(out: Output) -> None:
    """Delete what is in the table, and as large."""
    for name in (CHECKPOINT, ITEMS):
        out.delete(name)


def _finish_tidying(out: Output, run: Mapping[str, Any]) -> None:
    """Delete what an extension that is in the table has left: also of one that was killed just then."""
    begun = out.read_json(EXTENDING)
    if begun is not None and begun["folder"] == run[EMBEDDINGS]["folder"]:
        _tidy(out)
        for name in {EMBEDDINGS, f"{EMBEDDINGS}2"} - {run[EMBEDDINGS]["folder"]}:
            out.delete(name)
        out.delete(EXTENDING)


def summary(run: Mapping[str, Any], uri: str) -> str:
    """What a person wants to see at the end: what was heard, what was computed, and what to do with it."""
    counts = run["counts"]
    lines = [hours(counts), *reject_lines(counts)]
    alms = {key: about for key, about in run["models"].items() if kind_of(key) == "alm"}
    for key, about in alms.items():
        said = repetition_of_audio(run["effective_repetition"][key])
        lines += [f"{about['model']}: {line}" if len(alms) > 1 else line for line in said]
    if alms:
        copies = sum(len(about["audio_repeats"]) for about in alms.values())
        lines.append(
            f"{counts['encoder_inputs']:,} distinct inputs for {counts['segments']:,} segments × "
            f"{copies} audio repeats"
        )
    lines += [
        f"tables: {uri}/{run[EMBEDDINGS]['folder']}  recordings  rejects   run: {uri}/{RUN}",
        f"label:  python jobs/score.py --embeddings {uri} --output labels",
    ]
    return "\n".join(lines)
