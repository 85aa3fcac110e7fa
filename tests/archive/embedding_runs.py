"""Small embedding tables: rows of encoders, and a complete run's folder made of them."""

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from small_run import ITEM_S

from zsfuse_ray.archive.embed_run import PARQUET, flatten
from zsfuse_ray.archive.encode_stage import Hear
from zsfuse_ray.archive.layout import Layout
from zsfuse_ray.archive.pack_stage import Pack
from zsfuse_ray.archive.plan import bundle_items
from zsfuse_ray.archive.rows import BUNDLE, encoded_schema
from zsfuse_ray.archive.tables import compact_as
from zsfuse_ray.models.catalog import parse_spec
from zsfuse_ray.runs.folder import BUNDLES, EMBEDDINGS, ITEMS, RECORDINGS_PLANNED, RUN, Output

REPEATS, DIM, N_LOGITS = (1, 2, 3), 6, 4
MODELS = {
    "alm": {
        "model": "clap:untrained",
        "revision": "a1",
        "dim": DIM,
        "scale": 20.0,
        "audio_repeats": list(REPEATS),
    },
    "specialist": {
        "model": "classifier:untrained",
        "revision": "s1",
        "labels": ["sad", "neutral", "anger", "joy"],
    },
}
KEPT = {"dtype": "float32", "preprocessing": 1, "folder": EMBEDDINGS}


def unit(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Normalised vectors."""
    values = rng.standard_normal(shape)
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def encoded_rows(rows: list[dict], rng: np.random.Generator) -> list[dict]:
    """SCORED rows → ENCODED ones, where an a may hear the input of the one before; values in the segments."""
    encoded = []
    for row in rows:
        n = len(row["segments"])
        every, logits = unit(rng, n, len(REPEATS), DIM), rng.standard_normal((n, N_LOGITS)).astype(np.float32)
        every[::2, 1] = every[::2, 0]
        every[::3, 2] = every[::3, 1]
        segments = [
            segment | {"every": every[i], "logits": logits[i]} for i, segment in enumerate(row["segments"])
        ]
        values = {"embeddings": every.tobytes(), "logits": logits.tobytes()}
        encoded.append(row | values | {"segments": segments})
    return encoded


def packed(layout: Layout) -> Pack:
    """The stage where everything is computed anew."""
    spec = parse_spec("clap:untrained", "alm")
    return Pack(layout, {key: Hear(spec, part.audio_repeats) for key, part in layout.parts.items()}, {})


def write_table(
    folder: Path,
    rows: list[dict],
    planned: pa.Table,
    models: dict | None = None,
    dtype: str = "float32",
    files: int = 1,
) -> Output:
    """A complete run of ``jobs/embed.py`` whose encoders gave these ENCODED rows, in so many files."""
    models = models or MODELS
    layout = Layout.of(models, KEPT | {"dtype": dtype})
    pack, schema = packed(layout), encoded_schema(models)
    out = Output.open(str(folder))
    out.write_table(RECORDINGS_PLANNED, planned)
    out.write_table(BUNDLES, pa.Table.from_pylist(list(bundle_items(planned, ITEM_S)), schema=BUNDLE))
    for n, row in enumerate(rows):
        out.write_table(f"{ITEMS}/{n}.parquet", pack(pa.Table.from_pylist([row], schema=schema)))
    flat = partial(flatten, layout=layout)
    counts = compact_as(out, (), EMBEDDINGS, layout.schema, flat, **PARQUET)
    whole = out.read_table(EMBEDDINGS)
    for n in range(files if files > 1 else 0):
        part = whole.slice(n * len(whole) // files, (n + 1) * len(whole) // files - n * len(whole) // files)
        out.write_table(f"{EMBEDDINGS}/{EMBEDDINGS}{n}.parquet", part)
    if files > 1:
        out.delete(f"{EMBEDDINGS}/{EMBEDDINGS}.parquet")
    decided = {"item_s": ITEM_S, "vad": "silero", "min_segment_s": 0.5, "max_segment_s": 10.0}
    decided |= {"vad_threshold": 0.5, "long": "windows", "crop": "head", "precision": "auto"}
    kept = KEPT | {"dtype": dtype}
    run = {"versions": {"zsfuse_ray": "0"}, "config": decided, "models": models, EMBEDDINGS: kept}
    run |= {"counts": counts, "status": "complete"}
    run["effective_repetition"] = {
        key: {str(a): {"same": counts["segments"]} for a in part.audio_repeats}
        for key, part in layout.parts.items()
        if part.audio_repeats
    }
    out.write_json(RUN, run)
    return out
