"""A small archive with a plan and encoded/, created without audio and models."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.archive.bundles import bundle_items
from zsfuse_ray.archive.layout import PLAN, plan_file
from zsfuse_ray.archive.packing import normalised, pack_embeddings, pack_values, to_half
from zsfuse_ray.archive.passes import Computed, Encoded, Pass
from zsfuse_ray.archive.plan import Increment, Part, Plan
from zsfuse_ray.archive.schemas import BUNDLE, encoded_schema, kind_of
from zsfuse_ray.method.labelling import Labelling
from zsfuse_ray.runs.folder import Output

LABELS = ("angry", "pleasant surprise", "sad")
COLUMNS = ("angry", "pleasant_surprise", "sad")
THEIRS = ("sad", "neutral", "anger", "joy")  # the specialist's labels: without surprise
ITEM_S = 20.0
SECRET = "hunter2"
REPEATS, DIM, VECTOR_DIM = (1, 2, 3, 4), 6, 5
_ALM = {"sample_rate": 16_000, "window": 32_000, "fill": "repeat_pad", "dim": DIM, "scale": 20.0}
_SPECIALIST = {"sample_rate": 16_000, "window": None, "fill": "none", "labels": list(THEIRS)}
MODELS: dict[str, dict[str, Any]] = {
    "alm": {"model": "clap:untrained", "revision": None, "licence": None, **_ALM},
    "specialist": {"model": "classifier:untrained", "revision": None, "licence": None, **_SPECIALIST}
    | {"vector_dim": VECTOR_DIM},
    "alm2": {"model": "dual:there", "revision": "a2", "licence": None, **_ALM},
    "specialist2": {"model": "classifier:there", "revision": "s2", "licence": None, **_SPECIALIST}
    | {"vector_dim": None},
}
# The usual pass: an ALM and a specialist.
BOTH = {"alm": Computed((1, 2)), "specialist": Computed()}
CONFIG = {
    **{"vad": "silero", "min_segment_s": 0.5, "max_segment_s": 10.0, "vad_threshold": 0.5},
    **{
        "channels": "mix",
        "speakers": False,
        "long": "windows",
        "crop": "head",
        "precision": "auto",
        "preprocessing": 1,
    },
}
_rng = np.random.default_rng(7)
LABELLING = Labelling(
    labels=LABELS,
    text=normalised(_rng.standard_normal((2, len(LABELS), DIM))),
    scale=20.0,
    specialist_labels=THEIRS,
    ensemble="embedding",
    temperature=2.0,
    fusion="linear",
    weight=0.3,
)

Rows = list[dict[str, Any]]


def planned_rows() -> Rows:
    """Five recordings: a long one, a slice, a silent one, one that fails to decode, an unreadable one.

    Two parts contain two each; the third, with the last, has no bundles.
    """
    rows = []
    cases = [
        (50.0, None, None, None),
        (90.0, 30.0, 45.0, None),
        (8.0, None, None, None),
        (9.0, None, None, None),
        (None, None, None, "corrupt"),
    ]
    for n, (duration, start, end, reason) in enumerate(cases):
        row = {"recording_id": n, "uri": f"https://me:{SECRET}@host/{n}.wav?token={SECRET}", "start_s": start}
        row |= {"end_s": end, "size": None, "emotion": f"e{n}", "label": f"theirs {n}"}
        row |= {"plan_key": 100 + n, "plan_version": n, "plan_part": n // 2}
        row |= {"probe_duration_s": duration, "probe_exact": True, "probe_reason": reason}
        rows.append(row | {"probe_message": reason and "it broke"})
    return rows


def write_plan(out: Output, rows: Rows) -> Plan:
    """Write a plan of one increment with these recordings."""
    recordings = pa.Table.from_pylist(rows)
    bundles = pa.Table.from_pylist(list(bundle_items(recordings, ITEM_S)), schema=BUNDLE)
    out.write_table(plan_file(0, "recordings"), recordings)
    out.write_table(plan_file(0, "bundles"), bundles)
    items = [item for bundle in bundles["items"].to_pylist() for item in bundle]
    parts = {row["plan_part"]: row["recording_id"] for row in reversed(rows)}
    increment = Increment(
        first_recording=0,
        recordings=len(rows),
        playable=sum(row["probe_reason"] is None for row in rows),
        hours=sum(item["end_s"] - item["start_s"] for item in items) / 3600,
        first_item=0,
        items=len(items),
        first_bundle=0,
        bundles=len(bundles),
        first_part=0,
        parts=tuple(sorted(parts.values())),
        containers={"wav": 4},
        dropped=0,
        made="today",
    )
    columns = {"emotion": "string", "label": "string"}
    identity = {"input": "an archive", "item_s": ITEM_S}
    plan = Plan(out, "plan1", identity, columns, (increment,))
    content = {"versions": {"zsfuse_ray": "0"}, "id": plan.id, "config": identity, "columns": columns}
    out.write_json(PLAN, content | {"increments": [vars(increment)]})
    return plan


def unit(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Normalised vectors."""
    return normalised(rng.standard_normal(shape))


def encoded_rows(plan: Plan, rng: np.random.Generator) -> Rows:
    """Rows of encoded/ for a plan: 1 to 4 segments starting in each item, with their values.

    values: for an ALM the embedding by audio repeat, some of them equal; for a specialist its logits and
    vector. Recording 2 is silent and 3 fails to decode.
    """
    rows = []
    for bundle in plan.out.read_table(plan_file(0, "bundles")).to_pylist():
        done, segments = [], []
        for item in bundle["items"]:
            length = item["end_s"] - item["start_s"]
            outcome = {"item_id": item["item_id"], "recording_id": item["recording_id"], "audio_s": 0.0}
            outcome |= {"planned_s": length, "stage": None, "reason": None, "message": None}
            if item["recording_id"] == 3:
                done.append(outcome | {"stage": "decode", "reason": "corrupt", "message": "no frame"})
                continue
            done.append(outcome | {"audio_s": length})
            count = 0 if item["recording_id"] == 2 else int(rng.integers(1, 5))
            for start in np.sort(rng.uniform(item["start_s"], item["end_s"], count)):
                start_s, seconds = float(item["slice_start_s"] + start), float(rng.uniform(0.5, 4))
                segment = {"item_id": item["item_id"], "start_s": start_s, "end_s": start_s + seconds}
                segment |= {"speech_prob": 0.5, "samples": int(seconds * 8000), "sample_rate": 8000}
                segments.append(segment | {"values": _values(rng)})
        row = {"bundle_id": bundle["bundle_id"], "part": bundle["part"], "items": done, "segments": segments}
        rows.append(row | {"encoder_inputs": len(segments) + 1})
    return rows


def _values(rng: np.random.Generator) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, facts in MODELS.items():
        if kind_of(key) == "alm":
            own = unit(rng, len(REPEATS), DIM)
            for place in range(1, len(REPEATS)):
                if rng.random() < 0.4:
                    own[place] = own[rng.integers(place)]
            values[key] = dict(zip(REPEATS, own, strict=True))
        else:
            vector = rng.standard_normal(facts["vector_dim"] or 0).astype(np.float32)
            values[key] = (rng.standard_normal(len(THEIRS)).astype(np.float32), vector)
    return values


def write_pass(out: Output, one: Pass, rows: Iterable[dict[str, Any]], per_file: int = 1) -> None:
    """Write the folder of a pass with its models' outputs, per_file bundles in each file."""
    schema = encoded_schema(one.models)
    of_part: dict[int, Rows] = {}
    for row in rows:
        of_part.setdefault(row["part"], []).append(row | _packed(row["segments"], one.models))
    for part, own in of_part.items():
        for n in range(0, len(own), per_file):
            table = pa.Table.from_pylist(own[n : n + per_file], schema=schema)
            out.write_table(f"{one.path}/part={part}/{n:04}.parquet", table.drop_columns(["part"]))


def _packed(segments: Rows, models: Mapping[str, Computed]) -> dict[str, bytes | None]:
    found: dict[str, bytes | None] = {}
    for key, computed in models.items():
        own = [segment["values"][key] for segment in segments]
        if kind_of(key) == "alm":
            repeats, known = computed.audio_repeats, None
            shape = (len(own), len(repeats), DIM)
            values = np.array([[of[a] for a in repeats] for of in own], np.float32).reshape(shape)
            if computed.known:
                known = [[_place(of, a, computed.known) for a in repeats] for of in own]
                values[np.array([[p is not None for p in row] for row in known], bool).reshape(shape[:2])] = (
                    np.nan
                )
            found[f"{key}_embeddings"], found[f"{key}_inputs"] = pack_embeddings(values, known)
            continue
        logits, vectors = (np.array([of[i] for of in own], np.float32) for i in (0, 1))
        found[f"{key}_logits"] = pack_values(logits)
        found[f"{key}_vectors"] = pack_values(vectors) if MODELS[key]["vector_dim"] else None
    return found


def _place(of: Mapping[int, NDArray], a: int, known: Sequence[int]) -> int | None:
    return next((n for n, k in enumerate(known) if np.array_equal(of[k], of[a])), None)


@dataclass(frozen=True, eq=False)
class Small:
    """The small archive: its folder, plan and encoded rows."""

    out: Output
    plan: Plan
    rows: Rows

    def encode(
        self, *passes: Mapping[str, Computed], rows: Sequence[Rows] = (), per_file: int = 1
    ) -> Encoded:
        """Write passes with these models and their record; rows: of each pass, by default the archive's."""
        made = tuple(Pass(f"{n:03}", (0,), dict(models), True) for n, models in enumerate(passes))
        for n, one in enumerate(made):
            write_pass(self.out, one, rows[n] if rows else self.rows, per_file)
        keys = {key: MODELS[key] for models in passes for key in models}
        encoded = Encoded(self.out, self.plan.id, CONFIG, keys, made)
        encoded.write()
        return encoded

    @property
    def parts(self) -> list[Part]:
        """The parts of the plan."""
        return self.plan.parts()


def small_archive(folder: Path) -> Small:
    """The small archive in a folder, planned but not encoded."""
    out = Output.open(str(folder))
    plan = write_plan(out, planned_rows())
    return Small(out, plan, encoded_rows(plan, np.random.default_rng(0)))


def every_segment(rows: Rows) -> list[tuple[int, dict[str, Any]]]:
    """(recording, segment) of all rows, by recording and time."""
    owner = {item["item_id"]: item["recording_id"] for row in rows for item in row["items"]}
    found = [(owner[segment["item_id"]], segment) for row in rows for segment in row["segments"]]
    return sorted(found, key=lambda pair: (pair[0], pair[1]["start_s"]))


def embedding_of(segment: Mapping[str, Any], key: str, repeats: Sequence[int]) -> NDArray[np.float32]:
    """(A, dim): the expected embeddings of a segment when read."""
    return normalised(to_half(np.array([segment["values"][key][a] for a in repeats], np.float32)))


def output_of(segment: Mapping[str, Any], key: str, which: int = 0) -> NDArray[np.float32]:
    """The expected logits (0) or vector (1) of a segment when read."""
    return to_half(segment["values"][key][which]).astype(np.float32)
