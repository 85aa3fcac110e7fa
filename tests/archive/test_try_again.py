"""A finished run that is started again: which recordings are tried again."""

from pathlib import Path

import pyarrow as pa

from tests.archive.growing_archives import config, grow, rows_of
from zsfuse_ray.archive import growth
from zsfuse_ray.archive.growth import compare
from zsfuse_ray.archive.label import recordings_to_try_again
from zsfuse_ray.archive.listing import list_archive
from zsfuse_ray.archive.parts import AGAIN, state_name
from zsfuse_ray.archive.probing import PROBED
from zsfuse_ray.archive.summaries import to_try_again


def test_failures_that_may_have_ended() -> None:
    rows = [
        (0, "probe", "unreachable"),
        (1, "probe", "not_found"),  # it was never there
        (2, "decode", "not_found"),  # it was there when it was planned
        (3, "decode", "corrupt"),
        (4, "encode", "crashed"),
        (4, "decode", "timeout"),
        (5, "decode", "denied"),
        (6, "segment", "no_speech"),
        (7, "encode", "out_of_memory"),
    ]
    names = ("recording_id", "stage", "reason")
    rejects = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])
    assert to_try_again(rejects) == [0, 2, 4, 5]
    assert to_try_again(rejects.slice(0, 0)) == []


def test_only_recordings_that_failed_are_planned_again(archive: Path, folder: Path) -> None:
    plan, _ = grow(config(archive, folder))
    run = {"status": "complete", "digest": "d", "counts": {"rejects": {"timeout": 1, "not_audio": 1}}}
    assert recordings_to_try_again(plan.out, plan, run) == []  # no part has such a failure
    failed = next(row["recording_id"] for row in rows_of(plan, "recordings") if row["uri"].endswith("b.wav"))
    content = {"versions": {"zsfuse_ray": ""}, "counts": {}, AGAIN: [failed]}
    plan.out.write_json(state_name(plan.parts()[0], "d"), content)
    again = recordings_to_try_again(plan.out, plan, run)
    assert again == [failed]
    assert recordings_to_try_again(plan.out, plan, run | {"status": "started"}) == []
    assert recordings_to_try_again(plan.out, plan, run | {"counts": {"rejects": {"corrupt": 1}}}) == []
    listing = list_archive(str(archive))
    changes = compare(plan, listing, again)
    assert listing["uri"][int(changes.changed[0])].as_py().endswith("b.wav")
    assert (len(changes.changed), changes.again, changes.outdated.tolist()) == (1, 1, [failed])
    assert not compare(plan, listing).grows(False)


def test_what_fails_again_adds_nothing_to_the_plan(archive: Path, folder: Path, monkeypatch) -> None:
    plan, _ = grow(config(archive, folder))
    listing, rows = list_archive(str(archive)), rows_of(plan, "recordings")
    failed = [row["recording_id"] for row in rows if row["uri"].endswith(("a.wav", "b.wav"))]
    real, away = growth.probe_all, {"a.wav", "b.wav"}

    def probe(uris: pa.Table, *others) -> pa.Table:
        found = real(uris, *others).to_pylist()
        for uri, row in zip(uris["uri"].to_pylist(), found, strict=True):
            if Path(uri).name in away:
                row |= {"reason": "unreachable", "message": "no", "duration_s": None}
        return pa.Table.from_pylist(found, schema=PROBED)

    monkeypatch.setattr(growth, "probe_all", probe)
    changes = compare(plan, listing, failed)
    assert growth.extend_plan(config(archive, folder), plan.out, listing, plan, changes) is plan
    away.remove("b.wav")
    more = growth.extend_plan(config(archive, folder), plan.out, listing, plan, changes)
    assert [one.recordings for one in more.increments] == [4, 1]
    assert more.dropped.tolist() == [row["recording_id"] for row in rows if row["uri"].endswith("b.wav")]
    assert [row["recording_id"] for row in rows_of(more, "recordings")] == [0, 1, 2, 3, 4]
