"""An embedding table: the encoded archive in an output folder, used for labelling, tuning and evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsfuse_ray.archive.describe import is_model
from zsfuse_ray.archive.layout import PASSES, PLAN, RUN
from zsfuse_ray.archive.limit import as_far, first_hours, limit_of
from zsfuse_ray.archive.listing import carry
from zsfuse_ray.archive.parts import BY_TIME, place_segments, planned_recordings, without_dropped
from zsfuse_ray.archive.passes import Encoded, read_passes
from zsfuse_ray.archive.plan import Plan, open_plan
from zsfuse_ray.archive.reading import read_part
from zsfuse_ray.archive.schemas import kind_of
from zsfuse_ray.config.models import OF_TABLE
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.about import Kind
from zsfuse_ray.models.catalog import parse_spec, revision_of
from zsfuse_ray.runs.folder import Output

KINDS: tuple[Kind, ...] = ("alm", "specialist")


@dataclass(frozen=True, eq=False)
class Table:
    """An embedding table: an archive's plan and the record of encoded/."""

    plan: Plan
    encoded: Encoded
    limit_hours: float | None = None  # the table is that of a run with this limit

    @property
    def uri(self) -> str:
        """The folder's path or URI."""
        return self.plan.out.uri

    @property
    def increments(self) -> list[int]:
        """Increments of its plan with bundles."""
        return [n for n, increment in enumerate(self.plan.increments) if increment.bundles]

    def repeats(self, key: str) -> tuple[int, ...]:
        """Audio repeats that an ALM has encoded for all increments."""
        of_increments = [set(self.encoded.repeats(key, n)) for n in self.increments]
        return tuple(sorted(set.intersection(*of_increments))) if of_increments else ()

    def check_repeats(self, key: str, repeats: Sequence[int]) -> None:
        """InputError if an ALM has not encoded these audio repeats for all increments."""
        there = self.repeats(key)
        if self.increments and (missing := [a for a in repeats if a not in there]):
            raise InputError(
                f"{self.uri} was encoded without audio repeats {','.join(map(str, missing))} (it has "
                f"{','.join(map(str, there))}); use only those, or run embed with the missing ones"
            )

    def check_complete(self, keys: Mapping[str, str]) -> None:
        """InputError if a model ("alm", "specialist" → its name here) has not encoded the whole plan."""
        for key in keys.values():
            if any(not self.encoded.passes_of(key, n) for n in self.increments):
                raise InputError(
                    f"--embeddings {self.uri} is incomplete; run the same zsfuse embed again, it resumes"
                )


def open_table(uri: str, option: str = "--embeddings") -> Table:
    """Open the output of ``zsfuse embed`` or score, named by this option.

    InputError if nothing is encoded, or it was deleted.
    """
    out = Output.open(uri, option)
    try:
        there = out.read_json(PLAN) is not None and out.read_json(PASSES) is not None
    except InputError:
        there = False  # another program's
    encoded = read_passes(out) if there else None
    if encoded is None:
        raise InputError(f"{option} {out.uri}: no embedding table there; create one with zsfuse embed")
    if any(one.dropped for one in encoded.passes):
        raise InputError(
            f"{option} {out.uri}: encoded/ was deleted (--keep-encoded no); run zsfuse embed again"
        )
    plan = open_plan(out)
    limit = limit_of(out.read_json(RUN))
    view = first_hours(plan, limit)
    return Table(plan, encoded) if view is plan else Table(view, as_far(encoded, view), limit)


def key_of(kind: Kind, wanted: str, table: Table) -> str | None:
    """The name of a model in the table; for OF_TABLE the first of the kind; None for "none".

    InputError if the table does not have it.
    """
    own, models = table.encoded.of_kind(kind), table.encoded.models
    if wanted == OF_TABLE:
        return own[0] if own else None
    if wanted == "none":
        return None
    if not own:
        raise InputError(f"--{kind} {wanted}: {table.uri} was encoded without one; use --{kind} none")
    by_name = next((key for key in own if models[key]["model"] == wanted), None)
    if by_name and kind == "specialist":
        return by_name  # labelling does not load it
    spec = parse_spec(wanted, kind)
    if key := next((key for key in own if is_model(spec, models[key])), None):
        return key
    revision = revision_of(spec)
    of_revision = "" if revision is None else f" of revision {revision}"
    made = ", ".join(f"{models[key]['model']} of revision {models[key]['revision']}" for key in own)
    raise InputError(
        f"{table.uri} was encoded with --{kind} {made}, not {spec}{of_revision}; run embed with it first"
    )


@dataclass(frozen=True, eq=False)
class EncodedTable:
    """A whole embedding table in memory, one row per segment.

    segments: the columns PLACED and a manifest's own; models: facts of each, by its name in the table, with
    the audio_repeats of an ALM.
    """

    table: Table
    segments: pa.Table
    models: dict[str, dict[str, Any]]
    embeddings: dict[str, NDArray[np.float32]]
    outputs: dict[str, NDArray[np.float32]]
    vectors: dict[str, NDArray[np.float32]]  # (n, V) of each specialist that has them, if requested

    @property
    def uri(self) -> str:
        """The folder's path or URI."""
        return self.table.uri

    def of_kind(self, kind: str) -> list[str]:
        """Names of its models of a kind, in order."""
        return [key for key in self.models if kind_of(key) == kind]

    def audio(self, repeats: Sequence[int], key: str = "alm") -> NDArray[np.float32]:
        """Normalised embeddings (n, len(repeats), dim) of an ALM; InputError for a repeat it lacks."""
        self.table.check_repeats(key, repeats)
        own = self.models[key]["audio_repeats"]
        return self.embeddings[key][:, [own.index(a) for a in repeats]]

    def logits(self, key: str = "specialist") -> NDArray[np.float32]:
        """Logits (n, S) over a specialist's own labels."""
        return self.outputs[key]


def read_table(uri: str, vectors: bool = False, option: str = "--embeddings") -> EncodedTable:
    """Read a whole table, sorted by recording and time; vectors of specialists, which are large, on request.

    InputError if there is none or it is incomplete.
    """
    table = open_table(uri, option)
    table.check_complete({key: key for key in table.encoded.models})
    repeats = {key: table.repeats(key) if kind_of(key) == "alm" else () for key in table.encoded.models}
    models = {
        key: facts | ({"audio_repeats": list(repeats[key])} if kind_of(key) == "alm" else {})
        for key, facts in table.encoded.models.items()
    }
    places: list[pa.Table] = []
    values: dict[str, list[NDArray[np.float32]]] = {
        key: [_empty(facts, len(repeats[key]))] for key, facts in models.items()
    }
    of_vectors: dict[str, list[NDArray[np.float32]]] = {}
    for part in table.plan.parts():
        recordings = planned_recordings(table.plan, part)
        for rows in read_part(table.encoded, part, repeats, vectors):
            rows = without_dropped(rows, part)
            columns, source = place_segments(rows, recordings)
            carry(columns, source)
            places.append(pa.table(columns))
            for key, output in {**rows.embeddings, **rows.logits}.items():
                values[key].append(output)
            for key, output in rows.vectors.items():
                if output is not None:
                    of_vectors.setdefault(key, []).append(output)
    if not places:
        raise InputError(f"--embeddings {table.uri}: nothing is encoded there")
    segments = pa.concat_tables(places)
    joined = segments.append_column("row", pa.array(np.arange(len(segments))))
    order = joined.sort_by(BY_TIME)["row"].to_numpy()
    every = {key: np.concatenate(outputs)[order] for key, outputs in values.items()}
    alms = {key: value for key, value in every.items() if kind_of(key) == "alm"}
    others = {key: value for key, value in every.items() if kind_of(key) != "alm"}
    normalisable = {key: np.concatenate(outputs)[order] for key, outputs in of_vectors.items()}
    return EncodedTable(table, segments.take(pa.array(order)), models, alms, others, normalisable)


def _empty(facts: Mapping[str, Any], repeats: int) -> NDArray[np.float32]:
    return np.empty((0, repeats, facts["dim"]) if "dim" in facts else (0, len(facts["labels"])), np.float32)
