"""Read encoded/: the bundles of one part, with the outputs of the wanted models for their segments."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from zsfuse_ray.archive.layout import PASSES
from zsfuse_ray.archive.packing import normalised, unpack_embeddings, unpack_values
from zsfuse_ray.archive.passes import Encoded, Pass
from zsfuse_ray.archive.plan import Part
from zsfuse_ray.archive.schemas import OUTCOME, SPAN, kind_of, model_columns
from zsfuse_ray.archive.whole import DamagedPass, read_bundles
from zsfuse_ray.errors import InputError

# Its functions are generated at import, so type checkers do not know them.
pc: Any = pyarrow.compute

NOT_FINITE = {"stage": "encode", "reason": "not_finite", "message": "a model's outputs are not finite"}
MISSING = {
    "stage": "encode",
    "reason": "missing",
    "message": "its segments are missing in one pass over the audio",
}
BUNDLES_AT_ONCE = 64  # bundles of a part in memory with their embeddings

# Models to read by their names in encoded/, with the audio repeats of an ALM.
Wanted = Mapping[str, Sequence[int]]


@dataclass(frozen=True, eq=False)
class Rows:
    """Some bundles of a part. items, segments: rows of OUTCOME and SPAN, of n segments with finite values.

    segments has the columns `Encoded.span_columns`.

    embeddings: (n, A, dim) float32, normalised, of the wanted audio repeats of each ALM; logits: (n, labels)
    and vectors: (n, vector_dim), or None if there are none or they were not requested, of each specialist.
    """

    items: pa.Table
    segments: pa.Table
    embeddings: dict[str, NDArray[np.float32]]
    logits: dict[str, NDArray[np.float32]]
    vectors: dict[str, NDArray[np.float32] | None]
    encoder_inputs: int


def read_part(encoded: Encoded, part: Part, wanted: Wanted, vectors: bool = False) -> Iterator[Rows]:
    """The bundles of a part, some at a time; vectors of specialists, which are large, only on request.

    InputError if encoded/ does not match its record.
    """
    passes = _passes(encoded, part, wanted)
    if not passes:  # no recording of the increment could be opened, so nothing was encoded
        return
    place = encoded.out.path(f"{passes[0].path}/part={part.number}")
    try:
        gathered: list[pa.Table] = []
        for table in read_bundles(encoded, passes[0], part, _columns(passes[0], wanted, vectors)):
            gathered.append(table)
            if sum(map(len, gathered)) >= BUNDLES_AT_ONCE:
                yield _rows(encoded, part, wanted, vectors, passes, _joined(gathered))
                gathered = []
        if gathered:
            yield _rows(encoded, part, wanted, vectors, passes, _joined(gathered))
    except DamagedPass:
        raise
    except (LookupError, ValueError, TypeError) as error:  # pa.ArrowInvalid is a ValueError
        line = " ".join(str(error).split())
        raise InputError(
            f"{place} does not match {encoded.out.uri}/{PASSES}: {line}; encode again with --overwrite"
        ) from None


def _passes(encoded: Encoded, part: Part, wanted: Wanted) -> list[Pass]:
    """The passes with the wanted outputs, in order."""
    folders = {
        one.folder
        for key, repeats in wanted.items()
        for one in _needed(key, repeats, encoded.passes_of(key, part.increment))
    }
    return [one for one in encoded.passes if one.folder in folders]


def _needed(key: str, repeats: Sequence[int], passes: Sequence[Pass]) -> list[Pass]:
    """Those of a model's passes with these repeats, or with the known repeats that they refer to."""
    if kind_of(key) == "specialist":
        return list(passes[:1])
    chosen, needed = [], set(repeats)
    for one in reversed(passes):
        computed = one.models[key]
        if needed & set(computed.audio_repeats):
            chosen.insert(0, one)
            needed |= set(computed.known)
    return chosen


def _columns(one: Pass, wanted: Wanted, vectors: bool) -> list[str]:
    names = ["bundle_id", "items", "segments", "encoder_inputs"]
    for key in wanted:
        if key in one.models:
            first, second = model_columns(key)
            names += [first, second] if vectors or kind_of(key) == "alm" else [first]
    return names


@dataclass(frozen=True, eq=False)
class _Piece:
    """The same bundles in one pass, with its number of segments.

    place: the row here of each segment of the first pass, -1 if missing; None if the segments are the same.
    """

    of: Pass
    table: pa.Table
    items: pa.Table
    segments: int
    place: NDArray[np.int64] | None


def _rows(
    encoded: Encoded, part: Part, wanted: Wanted, with_vectors: bool, passes: list[Pass], table: pa.Table
) -> Rows:
    table = table.combine_chunks()
    items, segments = _flat(table, "items", OUTCOME), _flat(table, "segments", SPAN)
    n = len(segments)
    pieces = [_Piece(passes[0], table, items, n, None)]
    for one in passes[1:]:
        columns = _columns(one, wanted, with_vectors)
        pieces.append(_piece(encoded, part, columns, one, table["bundle_id"], segments))
    everywhere = np.ones(n, bool)
    for piece in pieces:
        everywhere &= True if piece.place is None else piece.place >= 0
    there = everywhere.copy()
    embeddings, logits, vectors = {}, {}, {}
    for key, repeats in wanted.items():
        about, own = encoded.models[key], [piece for piece in pieces if key in piece.of.models]
        if kind_of(key) == "alm":
            embeddings[key] = _embeddings(key, own, repeats, about["dim"], n)
            there &= np.isfinite(embeddings[key]).all(axis=(1, 2))
            continue
        of_logits, of_vectors = model_columns(key)
        piece, size = own[0], about["vector_dim"] if with_vectors else None
        logits[key] = _placed(unpack_values(piece.table[of_logits], len(about["labels"])), piece)
        vectors[key] = _placed(unpack_values(piece.table[of_vectors], size), piece) if size else None
        for values in (logits[key], vectors[key]):
            there &= True if values is None else np.isfinite(values).all(axis=1)
    kept = np.flatnonzero(there)
    return Rows(
        _with_failures(pieces, segments, everywhere, there),
        (segments.take(pa.array(kept)) if len(kept) < n else segments).select(encoded.span_columns),
        {key: values[kept] for key, values in embeddings.items()} if len(kept) < n else embeddings,
        {key: values[kept] for key, values in logits.items()} if len(kept) < n else logits,
        {key: v if v is None else v[kept] for key, v in vectors.items()},
        sum(pc.sum(piece.table["encoder_inputs"]).as_py() or 0 for piece in pieces),
    )


def _piece(
    encoded: Encoded,
    part: Part,
    columns: list[str],
    one: Pass,
    bundles: pa.ChunkedArray,
    segments: pa.Table,
) -> _Piece:
    """The same bundles in another pass; its segments are the same unless decoding failed in one of them."""
    table = _joined(read_bundles(encoded, one, part, columns, bundles.to_numpy()))
    order = pc.drop_null(pc.index_in(bundles, table["bundle_id"].combine_chunks()))
    table = table.take(order).combine_chunks()
    own = _flat(table, "segments", SPAN)
    names = ("item_id", "start_s", "channel")
    if len(own) == len(segments) and all(own[name].equals(segments[name]) for name in names):
        place = None
    else:
        row = {key: n for n, key in enumerate(zip(*(own[name].to_pylist() for name in names), strict=True))}
        keys = zip(*(segments[name].to_pylist() for name in names), strict=True)
        place = np.array([row.get(key, -1) for key in keys], np.int64)
    return _Piece(one, table, _flat(table, "items", OUTCOME), len(own), place)


def _embeddings(
    key: str, pieces: list[_Piece], repeats: Sequence[int], dim: int, n: int
) -> NDArray[np.float32]:
    """(n, len(repeats), dim), NaN for a segment that is missing in a piece."""
    needed = _needed(key, repeats, [piece.of for piece in pieces])
    embeddings: dict[int, NDArray[np.float32]] = {}
    for piece in pieces:
        if piece.of not in needed:
            continue
        computed = piece.of.models[key]
        of_embeddings, of_inputs = (piece.table[name] for name in model_columns(key))
        distinct, inputs = unpack_embeddings(of_embeddings, of_inputs, dim, len(computed.audio_repeats))
        _check_rows(inputs, piece)
        distinct = normalised(distinct)
        if piece.place is not None:
            distinct = np.vstack([distinct, np.full((1, dim), np.nan, np.float32)])
            inputs = np.vstack([inputs, np.full((1, inputs.shape[1]), len(distinct) - 1)])[piece.place]
        for a, chosen in zip(computed.audio_repeats, inputs.T, strict=True):
            embeddings[a] = distinct[np.maximum(chosen, 0)]
            for row in np.flatnonzero(chosen < 0):
                embeddings[a][row] = embeddings[computed.known[-1 - chosen[row]]][row]
    return np.stack([embeddings[a] for a in repeats], axis=1).reshape(n, len(repeats), dim)


def _placed(values: NDArray[np.float32], piece: _Piece) -> NDArray[np.float32]:
    """The rows of a piece's segments in the order of the first pass, NaN for missing ones."""
    _check_rows(values, piece)
    if piece.place is None:
        return values
    none = np.full((1, values.shape[1]), np.nan, np.float32)
    return np.vstack([values, none])[piece.place]  # -1 is the last


def _check_rows(values: NDArray, piece: _Piece) -> None:
    if len(values) != piece.segments:
        raise ValueError(f"values of {len(values)} segments, expected {piece.segments}")


def _with_failures(
    pieces: list[_Piece], segments: pa.Table, everywhere: NDArray[np.bool_], there: NDArray[np.bool_]
) -> pa.Table:
    """The items of the first piece, with the failures in the others.

    everywhere: which segments are in all pieces; there: those of them whose values are finite.
    """
    items = pieces[0].items
    item_ids = segments["item_id"].to_numpy()
    failures = dict.fromkeys(item_ids[~there].tolist(), NOT_FINITE)
    failures |= dict.fromkeys(item_ids[~everywhere].tolist(), MISSING)
    for piece in pieces[1:]:
        failed = piece.items.filter(piece.items["reason"].is_valid()).to_pylist()
        failures |= {row["item_id"]: row for row in failed}
    for item_id in items.filter(items["reason"].is_valid())["item_id"].to_pylist():
        failures.pop(item_id, None)
    if not failures:
        return items
    rows = [row | _reason(failures.get(row["item_id"])) for row in items.to_pylist()]
    return pa.Table.from_pylist(rows, schema=items.schema)


def _reason(failure: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: failure[name] for name in ("stage", "reason", "message")} if failure else {}


def _joined(tables: Iterable[pa.Table]) -> pa.Table:
    """Bundles of one pass, whose files may be of two versions."""
    return pa.concat_tables(tables, promote_options="default")


def _flat(table: pa.Table, name: str, kind: pa.StructType) -> pa.Table:
    """The structs of all rows, one per row."""
    flat = table[name].combine_chunks().flatten()
    none = pa.schema(list(kind)).empty_table()  # with the fields that a table of an earlier version lacks
    return pa.concat_tables([none, pa.Table.from_struct_array(flat)], promote_options="default")
