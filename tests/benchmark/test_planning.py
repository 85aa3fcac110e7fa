from pathlib import Path

from zsfuse_ray.archive import growth
from zsfuse_ray.archive.plan import open_plan
from zsfuse_ray.benchmark import planning
from zsfuse_ray.runs.folder import Output


def test_a_listing_without_files_is_planned(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(planning, "RECORDINGS_AT_ONCE", 300)
    monkeypatch.setattr(growth, "RECORDINGS_AT_ONCE", 300)
    found = planning.measure(1000, str(tmp_path))
    plan = open_plan(Output.open(str(tmp_path)))
    assert [one.recordings for one in plan.increments] == [300, 300, 300, 100]
    assert found["items"] == plan.total("items") > 1000
    assert found["peak_mb"] >= found["start_mb"] > 0
    assert found["plan_s"] > 0
