"""Which passes are run, and in which order; the outputs of a pass are faked from the small archive."""

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.archive.encoded_folders import MODELS, REPEATS, Small, embedding_of, every_segment, write_pass
from zsfuse_ray.archive import encode as module
from zsfuse_ray.archive.encode import Spent, encode_lacking
from zsfuse_ray.archive.limit import first_hours
from zsfuse_ray.archive.passes import Computed, Encoded, Pass, ToEncode, add_pass, drop_passes, read_passes
from zsfuse_ray.archive.table import read_table
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.models.catalog import parse_spec

CONFIG = ScoreConfig(input="x", output="y", alm="clap:untrained", specialist="classifier:untrained")
ALM, SPECIALIST = parse_spec("clap:untrained", "alm"), parse_spec("classifier:untrained", "specialist")
ALM_2 = parse_spec("dual:there", "alm")

Run = tuple[Pass, dict[str, ToEncode]]


@pytest.fixture
def runs(small: Small, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The passes that were run, with the task of each model."""
    found: list[Run] = []

    def run_pass(config, out, plan, one: Pass, tasks: Mapping[str, ToEncode], *others: Any) -> None:
        assert one in read_passes(out).passes  # recorded first, so that a killed pass resumes
        found.append((one, dict(tasks)))
        write_pass(out, one, small.rows)
        out.write_bytes(f"{one.checkpoint}/done", b"")

    pool = SimpleNamespace(num_gpus=0, min_size=2)
    monkeypatch.setattr("zsfuse_ray.archive.stream.run_pass", run_pass)
    monkeypatch.setattr(module.cluster, "pools", lambda *arguments: [pool])
    monkeypatch.setattr(module.cluster, "worker_nodes", lambda: 1)
    monkeypatch.setattr(module.ray, "cluster_resources", dict)
    monkeypatch.setattr(module.tally, "start_tally", lambda: None)
    sums = {"audio_s": 60.0, "planned_s": 60.0, module.tally.HALVED: 3}
    monkeypatch.setattr(module.tally, "sums", lambda tally: sums)
    return found


def encode(small: Small, encoded: Encoded | None, **wanted: ToEncode) -> tuple[Encoded, Spent]:
    facts = {key: MODELS[key] for key in wanted}
    increments = range(len(small.plan.increments))
    return encode_lacking(CONFIG, small.plan, encoded, wanted, facts, increments, False)


def check_values(small: Small, repeats: tuple[int, ...], key: str = "alm") -> None:
    """Check that the table has the expected embeddings of these repeats."""
    expected = [embedding_of(segment, key, repeats) for _, segment in every_segment(small.rows)]
    np.testing.assert_allclose(read_table(small.out.uri).audio(repeats, key), expected, atol=1e-6)


def test_only_missing_models_and_repeats_are_encoded(small: Small, runs: list[Run]) -> None:
    encoded, spent = encode(small, None, alm=ToEncode(ALM, (1,)), specialist=ToEncode(SPECIALIST))
    assert [run[1] for run in runs] == [{"alm": ToEncode(ALM, (1,)), "specialist": ToEncode(SPECIALIST)}]
    assert (spent.audio_s, spent.devices, spent.device, spent.halved) == (60.0, 2, "cpu", 3)
    encoded, spent = encode(small, encoded, alm=ToEncode(ALM, (1,)))
    assert (len(runs), spent) == (1, Spent())
    before = {path: small.out.fs.open_input_file(path).read() for path in small.out.parquet_files("encoded")}
    encoded, _ = encode(small, encoded, alm=ToEncode(ALM, REPEATS), alm2=ToEncode(ALM_2, (2,)))
    assert runs[1][1] == {"alm": ToEncode(ALM, (2, 3, 4), (1,)), "alm2": ToEncode(ALM_2, (2,))}
    assert {path: small.out.fs.open_input_file(path).read() for path in before} == before
    check_values(small, REPEATS)
    check_values(small, (2,), "alm2")
    found = read_passes(small.out)
    assert found is not None
    assert found.passes == encoded.passes
    assert all(one.complete for one in found.passes)
    assert list(found.models) == ["alm", "specialist", "alm2"]
    assert not any(small.out.exists(one.checkpoint) for one in found.passes)


def test_a_started_pass_resumes_as_recorded(small: Small, runs: list[Run]) -> None:
    first, _ = encode(small, None, alm=ToEncode(ALM, (1,)))
    begun, one = add_pass(
        replace(first, models={"alm": MODELS["alm"], "alm2": MODELS["alm2"]}),
        (0,),
        {"alm": Computed((3,), (1,)), "alm2": Computed((1,))},
    )
    encode(small, begun, alm=ToEncode(ALM, (4, 3)))
    assert [run[0].folder for run in runs] == ["000", "001", "002"]
    assert runs[1] == (one, {"alm": ToEncode(ALM, (3,), (1,)), "alm2": ToEncode(ALM_2, (1,))})
    assert runs[2][1] == {"alm": ToEncode(ALM, (4,), (1, 3))}
    check_values(small, (1, 3, 4))


@pytest.mark.parametrize("complete", [True, False])
def test_dropped_passes_are_encoded_again(small: Small, runs: list[Run], complete: bool) -> None:
    encoded, _ = encode(small, None, alm=ToEncode(ALM, (1, 2)))
    drop_passes(encoded.with_pass(replace(encoded.passes[0], complete=complete)))
    encode(small, read_passes(small.out), alm=ToEncode(ALM, (2,)))
    assert [run[0].folder for run in runs] == ["000", "001"]
    assert runs[1][1] == {"alm": ToEncode(ALM, (2,))}


def test_an_unreadable_archive_leaves_a_record(small: Small, runs: list[Run]) -> None:
    increment = replace(small.plan.increments[0], bundles=0, items=0)
    plan = replace(small.plan, increments=(increment,))
    encoded, spent = encode(replace(small, plan=plan), None, alm=ToEncode(ALM, (1,)))
    assert (runs, spent, encoded.passes) == ([], Spent(), ())
    found = read_passes(small.out)
    assert found is not None
    assert list(found.models) == ["alm"]


def test_a_limited_pass_is_complete_only_for_the_limit(small: Small, runs: list[Run]) -> None:
    plan = first_hours(small.plan, 0.001)
    assert plan.total("bundles") < small.plan.total("bundles")
    limited, wanted = replace(small, plan=plan), ToEncode(ALM, (1, 2))
    encoded, _ = encode(limited, None, alm=wanted)
    recorded = read_passes(small.out)
    assert recorded is not None
    assert [one.complete for one in encoded.passes] == [True]
    assert [one.complete for one in recorded.passes] == [False]
    encode(limited, recorded, alm=wanted)
    assert len(runs) == 1  # all of its bundles are there
    encoded, _ = encode(small, recorded, alm=wanted)
    recorded = read_passes(small.out)
    assert recorded is not None
    assert recorded.passes == encoded.passes
    assert [one.complete for one in encoded.passes] == [True]
    check_values(small, (1, 2))
