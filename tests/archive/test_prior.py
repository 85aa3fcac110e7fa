"""--prior over an archive: wanted means in the tables, bounded samples, the same result in every run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.archive.encoded_folders import BOTH, COLUMNS, LABELLING, LABELS, Small, small_archive
from tests.archive.test_normalise import READOUT
from zsfuse_ray.archive import label as module
from zsfuse_ray.archive import prior as sampling
from zsfuse_ray.archive import reading
from zsfuse_ray.archive.label import Labelled, label, stale_parts
from zsfuse_ray.archive.layout import PRIOR, SEGMENTS, TABLES, plan_file
from zsfuse_ray.archive.parts import LabelTask, label_part, state_name
from zsfuse_ray.archive.plan import Part
from zsfuse_ray.archive.prior import Sample, part_sample, prior_lines, rows_of_part
from zsfuse_ray.method.prior import Prior

SHARES = np.array([0.5, 0.2, 0.3])
ROW = {"specialist": (), "alm": (1, 2)}


def task_of(small: Small, prior: Prior | None = None, **changes: Any) -> LabelTask:
    keys = {"alm": "alm", "specialist": "specialist"}
    prior = prior or Prior(SHARES)
    task = LabelTask(small.plan, small.encode(BOTH), small.out, LABELLING, keys, ROW, {}, "one", prior=prior)
    return replace(task, **changes)


def labelled(task: LabelTask) -> Labelled:
    return label(task, stale_parts(task.out, task.plan.parts(), task.digest))


def content(task: LabelTask) -> dict[str, bytes]:
    """The bytes of the tables of segments and recordings and the record of the prior, by path."""
    paths = [path for name in TABLES for path in task.out.files(name) if path.endswith(".parquet")]
    return {path: task.out.fs.open_input_file(path).read() for path in [*paths, task.out.path(PRIOR)]}


def means(segments: pa.Table, kind: str) -> np.ndarray:
    """The mean of a model's columns by speech time."""
    seconds = segments["end_s"].to_numpy() - segments["start_s"].to_numpy()
    return np.array([np.average(segments[f"{kind}_{name}"].to_numpy(), weights=seconds) for name in COLUMNS])


@pytest.mark.parametrize("normalise", ["none", "recording", "speaker"])
def test_the_tables_have_the_wanted_means_by_speech_time(small: Small, normalise: Any) -> None:
    recordings = small.out.read_table(plan_file(0, "recordings"))
    speakers = pa.array(["anna", "anna", None, "", "bert"])
    small.out.write_table(plan_file(0, "recordings"), recordings.append_column("speaker", speakers))
    plan = replace(small.plan, columns=small.plan.columns | {"speaker": "string"})
    labelling = LABELLING if normalise == "none" else replace(LABELLING, readout=READOUT)
    task = task_of(small, plan=plan, normalise=normalise, labelling=labelling)
    made = labelled(task)
    segments = task.out.read_table(SEGMENTS)
    np.testing.assert_allclose(means(segments, "p"), SHARES, atol=1e-5)
    np.testing.assert_allclose(means(segments, "alm"), SHARES, atol=1e-5)
    record = made.prior
    assert record is not None
    assert record["segments_sampled"] == len(segments)
    assert record["wanted"] == dict(zip(LABELS, SHARES.tolist(), strict=True))
    for kind, column in (("alm", "alm"), ("fused", "p")):
        np.testing.assert_allclose(list(record[kind]["after"].values()), means(segments, column), atol=1e-6)
    labelled(replace(task, prior=None, digest="two"))
    plain = task.out.read_table(SEGMENTS)
    for kind, column in (("alm", "alm"), ("fused", "p")):
        np.testing.assert_allclose(list(record[kind]["before"].values()), means(plain, column), atol=1e-6)
    covered = [f"specialist_{name}" for name in COLUMNS if f"specialist_{name}" in plain.column_names]
    assert plain.select(covered).equals(segments.select(covered))  # the specialist's own are not corrected


def test_a_strength_of_0_changes_nothing(small: Small) -> None:
    task = task_of(small, Prior(SHARES, 0.0))
    labelled(task)
    segments = task.out.read_table(SEGMENTS)
    assert labelled(replace(task, prior=None, digest="two")).prior is None
    assert task.out.read_table(SEGMENTS).equals(segments)


def test_half_the_strength_gives_half_the_biases(small: Small) -> None:
    whole, half = (
        labelled(task_of(small, Prior(SHARES, strength), digest=str(strength))).prior
        for strength in (1.0, 0.5)
    )
    assert whole is not None
    assert half is not None
    for name in LABELS:
        assert half["alm"]["biases"][name] == pytest.approx(whole["alm"]["biases"][name] / 2)


@pytest.mark.parametrize("kind", ["alm", "specialist"])
def test_a_single_model(small: Small, kind: str) -> None:
    """The specialist does not know surprise: its share remains 0, and the others are scaled."""
    without: dict[str, Any] = {"specialist_labels": None} if kind == "alm" else {"text": None}
    task = task_of(small, keys={kind: kind}, wanted={kind: ROW[kind]})
    made = labelled(replace(task, labelling=replace(LABELLING, **without)))
    assert made.prior is not None
    assert set(made.prior) - {"wanted", "strength", "segments_sampled"} == {
        "alm" if kind == "alm" else "fused"
    }
    expected = SHARES if kind == "alm" else [0.625, 0, 0.375]
    np.testing.assert_allclose(means(task.out.read_table(SEGMENTS), "p"), expected, atol=1e-5)


def test_an_archive_without_segments(small: Small) -> None:
    for row in small.rows:
        row["segments"] = []
    made = labelled(task_of(small))
    assert made.prior is not None
    assert made.prior["segments_sampled"] == 0
    assert "fused" not in made.prior


def test_the_order_of_parts_and_files_has_no_effect(tmp_path: Path, monkeypatch) -> None:
    """A run on Ray samples parts as they finish, and an encoding that was resumed has other files."""
    found = []
    each = module.each_part
    for name, at_once, backwards in (("a", 64, False), ("b", 1, True)):
        small = small_archive(tmp_path / name)
        monkeypatch.setattr(reading, "BUNDLES_AT_ONCE", at_once)
        if backwards:
            monkeypatch.setattr(module, "each_part", lambda *given: reversed(list(each(*given))))
        task = task_of(small)
        labelled(task)
        found.append([*content(task).values()])
    assert found[0] == found[1]


@pytest.mark.parametrize("killed", [0, 1, 2])
def test_a_killed_labelling_resumes_with_the_same_biases(small: Small, monkeypatch, killed: int) -> None:
    task = task_of(small)
    made = labelled(task)
    before = content(task)
    for name in TABLES:
        task.out.delete(name)

    def dies(task: LabelTask, part: Part) -> dict:
        counts = label_part(task, part)
        if part.number == killed:
            task.out.delete(state_name(part, task.digest))
            raise KeyboardInterrupt
        return counts

    monkeypatch.setattr(module, "label_part", dies)
    with pytest.raises(KeyboardInterrupt):
        labelled(task)
    monkeypatch.setattr(module, "label_part", label_part)
    monkeypatch.setattr(module, "part_sample", must_not_run)
    assert labelled(task).prior == made.prior
    assert content(task) == before


def must_not_run(*_: object) -> None:
    raise AssertionError


def test_a_killed_sampling_starts_again(small: Small, monkeypatch) -> None:
    task = task_of(small)
    labelled(task)
    before = content(task)
    for name in TABLES:
        task.out.delete(name)

    def dies(task: LabelTask, part: Part) -> Sample | None:
        if part.number:
            raise KeyboardInterrupt
        return part_sample(task, part)

    monkeypatch.setattr(module, "part_sample", dies)
    with pytest.raises(KeyboardInterrupt):
        labelled(task)
    assert not task.out.exists(PRIOR)
    monkeypatch.setattr(module, "part_sample", part_sample)
    labelled(task)
    assert content(task) == before


def samples(task: LabelTask) -> list[Sample]:
    return [one for part in task.plan.parts() if (one := part_sample(task, part)) is not None]


@pytest.mark.parametrize("at_once", [1, 64])
def test_a_sample_is_bounded_and_stands_for_the_speech_of_its_part(
    small: Small, monkeypatch, at_once: int
) -> None:
    monkeypatch.setattr(reading, "BUNDLES_AT_ONCE", at_once)
    task = task_of(small)
    (whole,) = samples(task)  # only the first part has segments
    assert len(whole.segment_ids) > 6
    monkeypatch.setattr(sampling, "SAMPLE", 12)
    assert rows_of_part(task.plan) == 4
    (few,) = samples(task)
    assert len(few.segment_ids) == 4
    assert few.weights.sum() == pytest.approx(whole.weights.sum())
    places = [whole.segment_ids.tolist().index(segment_id) for segment_id in few.segment_ids]
    for kind in ("alm", "specialist"):
        np.testing.assert_allclose(few.posteriors[kind], whole.posteriors[kind][places], rtol=1e-12)
    monkeypatch.setattr(sampling, "SAMPLE", 0)
    assert rows_of_part(task.plan) == 1


def test_a_random_choice_of_ids_is_even() -> None:
    ids = np.concatenate([item * 1_000_000 + np.arange(50) for item in range(400)])
    chosen = sampling._lowest(ids, 2000)
    assert len(set(chosen)) == 2000
    assert np.corrcoef(np.arange(2000), chosen)[0, 1] == pytest.approx(0, abs=0.1)
    assert np.histogram(chosen, 10, (0, len(ids)))[0] == pytest.approx(200, abs=60)
    assert np.histogram(ids[chosen] % 1_000_000, 10, (0, 50))[0] == pytest.approx(200, abs=60)
    assert sorted(sampling._lowest(ids[:5], 10)) == list(range(5))


def test_a_changed_archive_is_sampled_again(small: Small) -> None:
    """Its digest differs, so the biases of the earlier labelling are deleted with its tables."""
    first = labelled(task_of(small)).prior
    assert first is not None
    dropped = replace(small.plan, dropped=np.array([1]))
    again = labelled(task_of(small, plan=dropped, digest="two")).prior
    assert again is not None
    assert 0 < again["segments_sampled"] < first["segments_sampled"]
    np.testing.assert_allclose(means(small.out.read_table(SEGMENTS), "p"), SHARES, atol=1e-5)


DONE = {
    "wanted": {"sad": 0.5, "angry": 0.5},
    "strength": 1.0,
    "segments_sampled": 12_345,
    "alm": {"before": {"sad": 0.1, "angry": 0.9}, "after": {"sad": 0.5, "angry": 0.5}},
    "fused": {"before": {"sad": 0.3, "angry": 0.7}, "after": {"sad": 0.5, "angry": 0.5}},
}


def test_no_line_without_a_prior() -> None:
    assert prior_lines({"config": {"prior": "none"}}) == []


def test_the_line_of_a_prior_shows_means_before_and_after() -> None:
    (line,) = prior_lines({"config": {"prior": "uniform"}, "prior": DONE})
    assert line == (
        "prior uniform, mean posterior by speech time: angry 70% → 50%, sad 30% → 50% "
        "(12,345 segments sampled)"
    )


def test_the_line_of_a_partial_prior_of_one_model() -> None:
    one = {name: value for name, value in DONE.items() if name != "fused"} | {"strength": 0.5}
    one["alm"] = {"before": {"sad": 0.1, "angry": 0.9}, "after": {"sad": 0.3, "angry": 0.7}}
    (line,) = prior_lines({"config": {"prior": {"sad": 0.5, "angry": 0.5}}, "prior": one})
    assert line.startswith("prior given at strength 0.5, mean posterior by speech time: angry 90% → 70%, ")


def test_shares_that_are_not_reached_are_named() -> None:
    off = DONE | {"fused": {"before": {"sad": 0.0, "angry": 1.0}, "after": {"sad": 0.0, "angry": 1.0}}}
    first, second = prior_lines({"config": {"prior": "uniform"}, "prior": off})
    assert "angry 100% → 100%" in first
    assert second == "prior: no biases of the labels give sad 50%, angry 50%"
    none = {name: value for name, value in DONE.items() if name not in ("alm", "fused")}
    assert prior_lines({"config": {"prior": "uniform"}, "prior": none}) == ["prior uniform: no segments"]
