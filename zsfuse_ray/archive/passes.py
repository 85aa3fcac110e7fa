"""The record of encoded/: which models have encoded which increments of the plan, and what is missing.

Each *pass* over the audio writes one folder of encoded/, with columns for its models. Models, audio repeats
and increments that are added later get their own passes: nothing is encoded twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from zsfuse_ray.archive.layout import ENCODED, PASSES
from zsfuse_ray.archive.schemas import SPAN, kind_of
from zsfuse_ray.errors import InputError
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.provenance import versions

# Options of tables by versions that did not have them.
BEFORE = {"channels": "mix", "speakers": False}

if TYPE_CHECKING:  # imports torch, which labelling does not need
    from zsfuse_ray.models.catalog import ModelSpec


@dataclass(frozen=True)
class ToEncode:
    """What one model is to compute; for an ALM, audio repeats whose inputs differ from the known repeats'."""

    spec: "ModelSpec"
    audio_repeats: tuple[int, ...] = ()
    known: tuple[int, ...] = ()


@dataclass(frozen=True)
class Computed:
    """What a pass computes with one model, as in `ToEncode`; a specialist has no audio repeats."""

    audio_repeats: tuple[int, ...] = ()
    known: tuple[int, ...] = ()


@dataclass(frozen=True)
class Pass:
    """One pass over the audio of some increments. dropped: its folder has been deleted."""

    folder: str
    increments: tuple[int, ...]
    models: dict[str, Computed]
    complete: bool = False
    dropped: bool = False

    @property
    def path(self) -> str:
        """Its folder, relative to the output."""
        return f"{ENCODED}/{self.folder}"

    @property
    def checkpoint(self) -> str:
        """The folder where Ray Data records which bundles are written, until the pass is complete."""
        return f"{ENCODED}/checkpoint-{self.folder}"

    @property
    def limited(self) -> str:
        """The folder with the bundles of a cut increment, while the pass runs."""
        return f"{ENCODED}/limit-{self.folder}"

    @property
    def attempts(self) -> str:
        """The file with the attempts at its inputs, until the pass is complete."""
        return f"{ENCODED}/attempts-{self.folder}.json"


@dataclass(frozen=True, eq=False)
class Encoded:
    """The record of encoded/. config: options that determine its rows; models: their facts, by name."""

    out: Output
    plan_id: str
    config: dict[str, Any]
    models: dict[str, dict[str, Any]]
    passes: tuple[Pass, ...]

    @property
    def has_turns(self) -> bool:
        """Whether its segments were cut at turns of speakers."""
        return self.config["speakers"]

    @property
    def span_columns(self) -> tuple[str, ...]:
        """The fields of SPAN that its segments have values of."""
        unused = {"channel"} if self.config["channels"] == "mix" else set()
        unused |= set() if self.has_turns else {"speaker", "overlap"}
        return tuple(field.name for field in SPAN if field.name not in unused)

    def of_kind(self, kind: str) -> list[str]:
        """Names of its models of a kind, in order."""
        return [key for key in self.models if kind_of(key) == kind]

    def passes_of(self, key: str, increment: int, begun: bool = False) -> list[Pass]:
        """Passes with a model's outputs for an increment, in order; begun: include incomplete ones."""
        return [
            one
            for one in self.passes
            if key in one.models
            and increment in one.increments
            and not one.dropped
            and (one.complete or begun)
        ]

    def repeats(self, key: str, increment: int, begun: bool = False) -> tuple[int, ...]:
        """Audio repeats in an ALM's passes for an increment."""
        return tuple(
            a for one in self.passes_of(key, increment, begun) for a in one.models[key].audio_repeats
        )

    def write(self) -> None:
        """Write the record."""
        content = {"versions": versions(), "plan": self.plan_id, "config": self.config, "models": self.models}
        self.out.write_json(PASSES, content | {"passes": [asdict(one) for one in self.passes]})

    def with_pass(self, changed: Pass) -> "Encoded":
        """Replace the pass in the same folder by this one and write the record; returns the new record."""
        passes = tuple(changed if one.folder == changed.folder else one for one in self.passes)
        record = replace(self, passes=passes)
        record.write()
        return record


def read_passes(out: Output) -> Encoded | None:
    """The record of encoded/, None if there is none; InputError if another version wrote it."""
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
        return Encoded(out, content["plan"], BEFORE | content["config"], content["models"], passes)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise InputError(
            f"{out.uri}/{PASSES} was written by another version; use another --output or --overwrite"
        ) from None


def _folder_name(name: str) -> str:
    """The name of a pass's folder; ValueError for one that could point outside encoded/."""
    if not name.isdigit():
        raise ValueError(f"{name} is not the folder of a pass")
    return name


def lacking(
    wanted: Mapping[str, ToEncode], encoded: Encoded | None, increments: Iterable[int]
) -> list[tuple[tuple[int, ...], dict[str, Computed]]]:
    """What is wanted and not encoded: groups of increments with the same models to run.

    Outputs of passes that were started count as encoded.
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
    """Passes that were started, not completed or dropped, with wanted models and these increments."""
    some = set(increments)
    return [
        one
        for one in (encoded.passes if encoded else ())
        if not (one.complete or one.dropped) and some & set(one.increments) and set(wanted) & set(one.models)
    ]


def add_pass(
    encoded: Encoded, increments: Sequence[int], models: dict[str, Computed]
) -> tuple[Encoded, Pass]:
    """Add a new pass to the record and write it; returns both."""
    one = Pass(f"{len(encoded.passes):03}", tuple(increments), models)
    record = replace(encoded, passes=(*encoded.passes, one))
    record.write()
    return record, one


def drop_passes(encoded: Encoded) -> None:
    """Delete all encoded data and keep the record; later commands encode what they need again."""
    record = replace(encoded, passes=tuple(replace(one, dropped=True) for one in encoded.passes))
    record.write()
    for one in encoded.passes:
        for name in (one.path, one.checkpoint, one.attempts, one.limited):
            encoded.out.delete(name)
