"""What is in encoded/: which models have encoded which increments of the plan, and what is still lacking.

Each *pass* over the audio writes one folder of it, with columns for the models of that pass. A model, a copy
of the audio or an increment that comes later is a pass of its own: nothing that was encoded is written again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from zsfuse_ray.archive.layout import ENCODED, PASSES
from zsfuse_ray.archive.schemas import kind_of
from zsfuse_ray.errors import InputError
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.provenance import versions

if TYPE_CHECKING:  # labelling needs no model, and so no torch
    from zsfuse_ray.models.catalog import ModelSpec


@dataclass(frozen=True)
class ToEncode:
    """What one model is to compute: for an ALM, copies of the audio that no known number of copies equals."""

    spec: "ModelSpec"
    audio_repeats: tuple[int, ...] = ()
    known: tuple[int, ...] = ()


@dataclass(frozen=True)
class Computed:
    """What a pass computes with one model: see `ToEncode`; no audio repeats for a specialist."""

    audio_repeats: tuple[int, ...] = ()
    known: tuple[int, ...] = ()


@dataclass(frozen=True)
class Pass:
    """One pass over the audio of some increments. dropped: complete, and its folder deleted since."""

    folder: str
    increments: tuple[int, ...]
    models: dict[str, Computed]
    complete: bool = False
    dropped: bool = False

    @property
    def path(self) -> str:
        """Its folder's name below the output."""
        return f"{ENCODED}/{self.folder}"

    @property
    def checkpoint(self) -> str:
        """Where Ray Data keeps which of its bundles are written, until it is complete."""
        return f"{ENCODED}/checkpoint-{self.folder}"


@dataclass(frozen=True, eq=False)
class Encoded:
    """The content of encoded/. config: what decides its rows; models: what they are, by their names in it."""

    out: Output
    plan_id: str
    config: dict[str, Any]
    models: dict[str, dict[str, Any]]
    passes: tuple[Pass, ...]

    def of_kind(self, kind: str) -> list[str]:
        """Names of its models of a kind, the first first."""
        return [key for key in self.models if kind_of(key) == kind]

    def passes_of(self, key: str, increment: int, begun: bool = False) -> list[Pass]:
        """Passes that hold a model's outputs for an increment, in order; begun: incomplete ones as well."""
        return [
            one
            for one in self.passes
            if key in one.models
            and increment in one.increments
            and not one.dropped
            and (one.complete or begun)
        ]

    def repeats(self, key: str, increment: int, begun: bool = False) -> tuple[int, ...]:
        """Audio repeats that an ALM's passes hold for an increment."""
        return tuple(
            a for one in self.passes_of(key, increment, begun) for a in one.models[key].audio_repeats
        )

    def write(self) -> None:
        """Write the record of what is there."""
        content = {"versions": versions(), "plan": self.plan_id, "config": self.config, "models": self.models}
        self.out.write_json(PASSES, content | {"passes": [asdict(one) for one in self.passes]})

    def with_pass(self, changed: Pass) -> "Encoded":
        """The same with this pass in place of the one in its folder, written."""
        passes = tuple(changed if one.folder == changed.folder else one for one in self.passes)
        record = replace(self, passes=passes)
        record.write()
        return record


def read_passes(out: Output) -> Encoded | None:
    """The record of encoded/, None where there is none; InputError where it is of another version."""
    content = out.read_json(PASSES)
    if content is None:
        return None
    try:
        passes = tuple(
            Pass(
                _folder_name(row["folder"]),
                tuple(row["increments"]),
                {
                    key: Computed(tuple(one["audio_repeats"]), tuple(one["known"]))
                    for key, one in row["models"].items()
                },
                row["complete"],
                row["dropped"],
            )
            for row in content["passes"]
        )
        return Encoded(out, content["plan"], content["config"], content["models"], passes)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise InputError(
            f"{out.uri}/{PASSES} is not of this version; use another --output or --overwrite"
        ) from None


def _folder_name(name: str) -> str:
    """The name of a pass' folder; ValueError for one that would lead out of encoded/."""
    if not name.isdigit():
        raise ValueError(f"{name} is no folder of a pass")
    return name


def lacking(
    wanted: Mapping[str, ToEncode], encoded: Encoded | None, increments: Iterable[int]
) -> list[tuple[tuple[int, ...], dict[str, Computed]]]:
    """What is to be computed of what is wanted: increments that lack the same, and with which models.

    What a pass that was begun will hold is not lacking.
    """
    groups: dict[tuple, tuple[list[int], dict[str, Computed]]] = {}
    for increment in increments:
        needs: dict[str, Computed] = {}
        for key, one in wanted.items():
            there = encoded.passes_of(key, increment, begun=True) if encoded else []
            if not one.audio_repeats:
                if not there:
                    needs[key] = Computed()
                continue
            known = tuple(a for each in there for a in each.models[key].audio_repeats)
            if new := tuple(a for a in one.audio_repeats if a not in known):
                needs[key] = Computed(tuple(dict.fromkeys(new)), known)
        if needs:
            same = tuple((key, *asdict(one).items()) for key, one in needs.items())
            groups.setdefault(same, ([], needs))[0].append(increment)
    return [(tuple(numbers), needs) for numbers, needs in groups.values()]


def begun_passes(
    wanted: Mapping[str, ToEncode], encoded: Encoded | None, increments: Iterable[int]
) -> list[Pass]:
    """Passes that were begun, neither completed nor dropped, with something wanted of these increments."""
    some = set(increments)
    return [
        one
        for one in (encoded.passes if encoded else ())
        if not (one.complete or one.dropped) and some & set(one.increments) and set(wanted) & set(one.models)
    ]


def add_pass(
    encoded: Encoded, increments: Sequence[int], models: dict[str, Computed]
) -> tuple[Encoded, Pass]:
    """A new pass in the record, written."""
    one = Pass(f"{len(encoded.passes):03}", tuple(increments), models)
    record = replace(encoded, passes=(*encoded.passes, one))
    record.write()
    return record, one


def drop_passes(encoded: Encoded) -> None:
    """Delete what is encoded, and keep the record of it: a later command encodes what it needs again."""
    record = replace(encoded, passes=tuple(replace(one, dropped=True) for one in encoded.passes))
    record.write()
    for one in encoded.passes:
        for name in (one.path, one.checkpoint):
            encoded.out.delete(name)
