"""Encoded, started and missing outputs compared with sets of (increment, model, repeat)."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.archive.encoded_folders import BOTH, CONFIG, MODELS, Small
from zsfuse_ray.archive.layout import PASSES
from zsfuse_ray.archive.passes import (
    Computed,
    Encoded,
    Pass,
    ToEncode,
    add_pass,
    begun_passes,
    drop_passes,
    lacking,
    read_passes,
)
from zsfuse_ray.archive.schemas import kind_of
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import parse_spec
from zsfuse_ray.runs.folder import Output

KEYS = ("alm", "alm2", "specialist")
SPECS = {"alm": "clap:untrained", "alm2": "dual:untrained", "specialist": "classifier:untrained"}
INCREMENTS = 4
repeat_sets = st.lists(st.integers(1, 5), min_size=1, max_size=4)
some_increments = st.lists(st.integers(0, INCREMENTS - 1), min_size=1, unique=True).map(sorted)


@st.composite
def wants(draw: st.DrawFn) -> dict[str, ToEncode]:
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=1, unique=True))
    repeats = {key: tuple(draw(repeat_sets)) if kind_of(key) == "alm" else () for key in keys}
    return {key: ToEncode(parse_spec(SPECS[key], kind_of(key)), repeats[key]) for key in keys}


@st.composite
def histories(draw: st.DrawFn) -> Encoded:
    """Passes as successive commands write them: each computes what was missing at the time."""
    encoded = Encoded(Output.open("nowhere"), "p", {}, {}, ())
    for _ in range(draw(st.integers(0, 4))):
        state = draw(st.sampled_from(["complete", "begun", "dropped", "dropped while begun"]))
        complete, dropped = state in ("complete", "dropped"), state.startswith("dropped")
        for numbers, models in lacking(draw(wants()), encoded, draw(some_increments)):
            one = Pass(f"{len(encoded.passes):03}", numbers, models, complete, dropped)
            encoded = replace(encoded, passes=(*encoded.passes, one))
    return encoded


def units(key: str, repeats: tuple[int, ...], increments) -> set[tuple]:
    return {(n, key, a) for n in increments for a in (repeats or (None,))}


def held(encoded: Encoded | None, begun: bool) -> set[tuple]:
    """Outputs in the passes that are not dropped."""
    found: set[tuple] = set()
    for one in encoded.passes if encoded else ():
        if not one.dropped and (one.complete or begun):
            for key, computed in one.models.items():
                found |= units(key, computed.audio_repeats, one.increments)
    return found


@given(wants(), st.none() | histories(), some_increments)
def test_lacking_is_wanted_minus_encoded(wanted, encoded, increments) -> None:
    groups = lacking(wanted, encoded, increments)
    requested = set().union(*(units(key, one.audio_repeats, increments) for key, one in wanted.items()))
    before, found = held(encoded, begun=True), []
    for numbers, models in groups:
        assert list(numbers) == sorted(set(numbers))
        for key, computed in models.items():
            found += sorted(units(key, computed.audio_repeats, numbers), key=str)
            for n in numbers:
                assert set(computed.known) == {a for i, k, a in before if (i, k) == (n, key)} - {None}
    assert len(found) == len(set(found))
    assert set(found) == requested - before
    needs = [str(models) for _, models in groups]
    assert len(needs) == len(set(needs))  # increments that lack the same are encoded together


@given(wants(), st.none() | histories(), some_increments)
def test_started_passes_with_wanted_outputs_resume(wanted, encoded, increments) -> None:
    expected = [
        one.folder
        for one in (encoded.passes if encoded else ())
        if not one.complete
        and not one.dropped
        and any(n in one.increments for n in increments)
        and any(key in one.models for key in wanted)
    ]
    assert [one.folder for one in begun_passes(wanted, encoded, increments)] == expected


@given(histories())
def test_repeats_by_increment(encoded: Encoded) -> None:
    for begun in (False, True):
        for n in range(INCREMENTS):
            for key in ("alm", "alm2"):
                own = encoded.repeats(key, n, begun)
                assert len(own) == len(set(own))
                assert {(n, key, a) for a in own} == {u for u in held(encoded, begun) if u[:2] == (n, key)}


def test_outputs_of_a_started_pass_are_not_lacking(small: Small) -> None:
    encoded = Encoded(small.out, "p", {}, {}, ())
    wanted = {"alm": ToEncode(parse_spec("clap:untrained", "alm"), (3, 1, 3))}
    ((numbers, models),) = lacking(wanted, encoded, [0, 2])
    assert (numbers, models) == ((0, 2), {"alm": Computed((3, 1), ())})
    encoded, one = add_pass(encoded, numbers, models)
    assert (one.path, one.checkpoint) == ("encoded/000", "encoded/checkpoint-000")
    assert lacking(wanted, read_passes(small.out), [0, 2]) == []
    assert begun_passes(wanted, read_passes(small.out), [2]) == [one]
    done = encoded.with_pass(replace(one, complete=True))
    assert begun_passes(wanted, done, [0, 2]) == []
    more = {"alm": replace(wanted["alm"], audio_repeats=(1, 2))}
    assert lacking(more, done, [0, 1]) == [
        ((0,), {"alm": Computed((2,), (3, 1))}),
        ((1,), {"alm": Computed((1, 2), ())}),
    ]


def test_the_record_is_read_back(small: Small) -> None:
    encoded = small.encode(BOTH, {"alm": Computed((3,), (1, 2)), "alm2": Computed((1,))})
    found = read_passes(small.out)
    assert found is not None
    assert (found.plan_id, found.config, found.models, found.passes) == (
        small.plan.id,
        CONFIG,
        {key: MODELS[key] for key in ("alm", "specialist", "alm2")},
        encoded.passes,
    )
    assert found.of_kind("alm") == ["alm", "alm2"]
    assert read_passes(Output.open(f"{small.out.root}/other")) is None


@pytest.mark.parametrize("content", [{}, {"passes": 3}, {"passes": [{"folder": "000"}]}, {"passes": [[]]}])
def test_a_record_of_another_version_is_refused(tmp_path: Path, content: dict) -> None:
    out = Output.open(str(tmp_path))
    out.write_json(
        PASSES, {"versions": {"zsfuse_ray": "0"}, "plan": "", "config": {}, "models": {}} | content
    )
    with pytest.raises(InputError, match="written by another version"):
        read_passes(out)


def test_dropped_passes_stay_in_the_record_and_are_lacking(small: Small) -> None:
    encoded = small.encode(BOTH)
    small.out.write_bytes(f"{encoded.passes[0].checkpoint}/x", b"")
    drop_passes(encoded)
    assert not small.out.parquet_files("encoded")
    assert not small.out.exists(encoded.passes[0].checkpoint)
    found = read_passes(small.out)
    assert found is not None
    assert [one.dropped for one in found.passes] == [True]
    assert found.models == encoded.models
    wanted = {"alm": ToEncode(parse_spec("clap:untrained", "alm"), (1, 2))}
    assert lacking(wanted, encoded, [0]) == []
    assert lacking(wanted, found, [0]) == [((0,), {"alm": Computed((1, 2), ())})]
    again, one = add_pass(found, (0,), {"alm": Computed((1, 2))})
    assert one.folder == "001"
    assert again.passes[0].dropped
