"""One run of ``jobs/embed.py``: as a run of score, but what the models say is kept instead of fused."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from zsfuse_ray.archive.embeddings import PARQUET, PREPROCESSING, flatten
from zsfuse_ray.archive.output import CHECKPOINT, EMBEDDINGS, ITEMS, RUN, Output
from zsfuse_ray.archive.pack_stage import EMBEDDED, Layout, pack
from zsfuse_ray.archive.run import Work, hours, reject_lines, repetition_lines, run_archive
from zsfuse_ray.archive.scoring import describe_models
from zsfuse_ray.archive.tables import compact_as
from zsfuse_ray.config.embed import EmbedConfig
from zsfuse_ray.errors import InputError


def embed(config: EmbedConfig, preset: str) -> int:
    """Embed an archive. Returns the exit code: 0, or 1 where more failed than ``max_reject_rate`` allows."""
    out = Output.open(config.output)
    if out.exists(EMBEDDINGS) and EMBEDDINGS not in (out.read_json(RUN) or {}):
        raise InputError(
            f"{out.uri}/{EMBEDDINGS} is there already and of no embedding table; use another --output"
        )
    code = run_archive(config, preset, _embedding, summary)
    run = out.read_json(RUN)
    if run is not None and run["status"] == "complete":
        for name in (CHECKPOINT, ITEMS):  # what is in them is in the table, and as large
            out.delete(name)
    return code


def _embedding(config: EmbedConfig) -> Work:
    models = describe_models(config)
    kept = {"audio_repeats": config.audio_repeats, "dtype": config.dtype, "preprocessing": PREPROCESSING}
    layout = Layout.of(models, kept)
    write = partial(
        compact_as,
        labels=(),
        name=EMBEDDINGS,
        schema=EMBEDDED,
        flat=partial(flatten, layout=layout),
        **PARQUET,
    )
    return Work(partial(pack, layout=layout), {"models": models, EMBEDDINGS: kept}, write)


def summary(run: Mapping[str, Any], uri: str) -> str:
    """What a person wants to see at the end: what was heard, what was computed, and what to do with it."""
    counts, repeats = run["counts"], run[EMBEDDINGS]["audio_repeats"]
    lines = [hours(counts), *reject_lines(counts), *repetition_lines(run)]
    if "alm" in run["models"]:
        lines.append(
            f"{counts['encoder_inputs']:,} distinct inputs for {counts['segments']:,} segments × "
            f"{len(repeats)} audio repeats"
        )
    lines += [
        f"tables: {uri}/{EMBEDDINGS}  recordings  rejects   run: {uri}/{RUN}",
        f"label:  python jobs/score.py --embeddings {uri} --output labels",
    ]
    return "\n".join(lines)
