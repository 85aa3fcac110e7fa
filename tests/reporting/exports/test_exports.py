"""Every format is read back by a library of that format, where there is one."""

import csv
import json
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import audformat
import datasets
import pyarrow as pa
import pympi
import pytest
import srt
import webvtt
from praatio import textgrid

from zsfuse_ray.config.export import ExportConfig
from zsfuse_ray.config.options import build
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labels import column
from zsfuse_ray.reporting.exports.export import export
from zsfuse_ray.reporting.exports.formats import FORMATS, PerRecording
from zsfuse_ray.runs.folder import Output

ODD = 'calm "&" <v x>'
LABELS = ("happy", "sad", ODD)
# URI → duration and segments. Odd names; no segment; two slices of one file, whose segments overlap.
RECORDINGS: list[tuple[str, float | None, list[tuple[float, float, str, float]]]] = [
    (
        "/a/b/one.mp3",
        20.0,
        [(0.5, 3.25, "happy", 0.75), (3.25, 4.0, "sad", 0.5), (3600.25, 3601.5, ODD, 0.625)],
    ),
    ("/a/b/c/<script>\n'x\".wav", 5.0, [(0.0, 5.0, ODD, 1.0)]),
    ("/a/b/c/silent ü.wav", 2.0, []),
    ("/a/sliced.wav", 9.0, [(5.0, 7.0, "sad", 0.5)]),
    ("/a/broken.wav", None, []),
    ("/a/sliced.wav", 9.0, [(1.0, 6.0, "happy", 0.5)]),
]
SEGMENTS = sum(len(segments) for _, _, segments in RECORDINGS)
FILES = 4


def write_run(folder: Path, status: str = "complete") -> Path:
    """A run in two parts, the first with four recordings."""
    out = Output.open(str(folder))
    for part, some in enumerate((RECORDINGS[:4], RECORDINGS[4:])):
        rows = [
            {"recording_uri": uri, "start_s": start, "end_s": end, "label": label, "confidence": confidence}
            | {f"p_{column(name)}": confidence if name == label else (1 - confidence) / 2 for name in LABELS}
            | {"tags": {"n": 1}, "segment_id": n}
            for uri, _, segments in some
            for n, (start, end, label, confidence) in enumerate(segments)
        ]
        files = [{"recording_uri": uri, "duration_s": duration} for uri, duration, _ in some]
        out.write_table(f"segments/part-{part:06}.parquet", pa.Table.from_pylist(rows))
        out.write_table(f"recordings/part-{part:06}.parquet", pa.Table.from_pylist(files))
    config = {"labels": list(LABELS), "unsure_below": 0.0}
    models = {"alm": {"model": "clap:x", "licence": "mit"}}
    record = {"versions": {"zsfuse_ray": "1"}, "config": config, "models": models, "status": status}
    out.write_json("run.json", record)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_run(tmp_path_factory.mktemp("run"))
    export(build(ExportConfig, {"run": str(run), "format": "all"}))
    return run / "exports"


def files(exported: Path, name: str) -> dict[str, Path]:
    """The exported files of a format: one.mp3, odd, silent and sliced."""
    found = {}
    for path in (exported / name).rglob("*"):
        if path.is_file():
            key = next(key for key in ("one", "script", "silent", "sliced") if key in path.name)
            found["odd" if key == "script" else key] = path
    assert len(found) == FILES
    return found


def expected(key: str) -> list[tuple[float, float, str, float]]:
    name = {"odd": "script"}.get(key, key)
    return sorted(one for uri, _, segments in RECORDINGS if name in uri for one in segments)


def test_names_repeat_the_folders_and_stay_below_the_output(exported: Path) -> None:
    found = files(exported, "vtt")
    assert found["one"] == exported / "vtt" / "b" / "one.mp3.vtt"
    assert found["silent"].name == "silent ü.wav.vtt"
    assert found["odd"].parent == exported / "vtt" / "b" / "c"
    assert not set(found["odd"].name) & set('<>\n"')


@pytest.mark.parametrize("key", ["one", "odd", "silent", "sliced"])
class TestPerRecording:
    def test_webvtt(self, exported: Path, key: str) -> None:
        cues = list(webvtt.read(str(files(exported, "vtt")[key])))
        times = [(cue.start_in_seconds, cue.end_in_seconds) for cue in cues]
        assert times == [(int(start), int(end)) for start, end, *_ in expected(key)]
        # its parser does not decode entities in the name of a voice
        assert [cue.voice for cue in cues if "&" not in cue.raw_text] == [
            label for *_, label, _ in expected(key) if label != ODD
        ]
        milliseconds = [cue.start for cue in cues]
        assert milliseconds == [
            srt.timedelta_to_srt_timestamp(srt.timedelta(seconds=s)).replace(",", ".")
            for s, *_ in expected(key)
        ]

    def test_srt(self, exported: Path, key: str) -> None:
        entries = list(srt.parse(files(exported, "srt")[key].read_text()))
        found = [(e.start.total_seconds(), e.end.total_seconds(), e.content) for e in entries]
        assert found == [(start, end, f"{label} {c:.2f}") for start, end, label, c in expected(key)]

    def test_audacity(self, exported: Path, key: str) -> None:
        with files(exported, "audacity")[key].open(newline="") as file:
            rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        found = [(float(start), float(end), content) for start, end, content in rows]
        assert found == [(start, end, f"{label} {c:.2f}") for start, end, label, c in expected(key)]

    def test_rttm(self, exported: Path, key: str) -> None:
        rows = [line.split(" ") for line in files(exported, "rttm")[key].read_text().splitlines()]
        assert all(len(row) == 10 and row[0] == "SPEAKER" for row in rows)
        found = [(float(row[3]), float(row[3]) + float(row[4]), row[7], float(row[8])) for row in rows]
        assert found == [(s, e, label.replace(" ", "_"), c) for s, e, label, c in expected(key)]

    def test_textgrid(self, exported: Path, key: str) -> None:
        grid = textgrid.openTextgrid(str(files(exported, "textgrid")[key]), includeEmptyIntervals=True)
        found = []
        for name in grid.tierNames:
            entries = grid.getTier(name).entries
            assert entries[0].start == 0
            assert entries[-1].end == grid.maxTimestamp  # without gaps
            assert all(one.end == two.start for one, two in pairwise(entries))
            if name.startswith("emotion"):
                found += [tuple(one) for one in entries if one.label]
        assert sorted(found) == [(start, end, label) for start, end, label, _ in expected(key)]

    def test_elan(self, exported: Path, key: str) -> None:
        document = pympi.Eaf(str(files(exported, "elan")[key]))
        tiers = document.get_tier_names()
        found = [
            one[:3]
            for tier in tiers
            if tier.startswith("emotion")
            for one in document.get_annotation_data_for_tier(tier)
        ]
        assert sorted(found) == [(s * 1000, e * 1000, label) for s, e, label, _ in expected(key)]
        (linked,) = document.get_linked_files()
        assert linked["MEDIA_URL"].startswith("file:///a/")


def test_csv(exported: Path) -> None:
    with (exported / "csv" / "segments.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == SEGMENTS
    assert rows[0]["recording_uri"] == "/a/b/one.mp3"
    assert [(float(row["start_s"]), row["label"]) for row in rows[:2]] == [(0.5, "happy"), (3.25, "sad")]
    assert json.loads(rows[0]["tags"]) == {"n": 1}


def test_jsonl(exported: Path) -> None:
    lines = (exported / "jsonl" / "segments.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == SEGMENTS
    assert rows[3]["recording_uri"] == RECORDINGS[1][0]
    assert rows[3]["label"] == ODD


def test_label_studio(exported: Path) -> None:
    tasks = json.loads((exported / "label-studio" / "tasks.json").read_text())
    assert len(tasks) == FILES
    interface = ElementTree.parse(exported / "label-studio" / "interface.xml").getroot()
    assert [one.get("value") for one in interface.iter("Label")] == list(LABELS)
    (labels,), (audio,) = interface.findall("Labels"), interface.findall("Audio")
    for task in tasks:
        assert "$" + next(iter(task["data"])) == audio.get("value")
        (prediction,) = task["predictions"]
        for one in prediction["result"]:
            assert (one["from_name"], one["to_name"]) == (labels.get("name"), audio.get("name"))
            assert one["type"] == "labels"
            assert one["original_length"] >= one["value"]["end"]
            assert set(one["value"]["labels"]) <= set(LABELS)
    assert sum(len(task["predictions"][0]["result"]) for task in tasks) == SEGMENTS


def test_audformat(exported: Path) -> None:
    base = audformat.Database.load(str(exported / "audformat"))
    table = base["segments"].get()
    assert len(table) == SEGMENTS
    first = table.loc["/a/b/one.mp3"].reset_index()
    assert first["start"].dt.total_seconds().tolist() == [0.5, 3.25, 3600.25]
    assert first["end"].dt.total_seconds().tolist() == [3.25, 4.0, 3601.5]
    assert first["label"].tolist() == ["happy", "sad", ODD]
    assert first["p_happy"].tolist() == [0.75, 0.25, 0.1875]


def test_hugging_face(exported: Path, tmp_path: Path) -> None:
    data = datasets.load_dataset(str(exported / "huggingface"), split="train", cache_dir=str(tmp_path))
    assert data.features["label"].names == list(LABELS)
    assert len(data) == SEGMENTS
    assert [data.features["label"].int2str(n) for n in data["label"][:3]] == ["happy", "sad", ODD]
    assert data["end_s"][:3] == [3.25, 4.0, 3601.5]


def test_an_export_replaces_an_earlier_one(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    config = build(ExportConfig, {"run": str(run), "format": "srt", "output": str(tmp_path / "e")})
    export(config)
    stale = tmp_path / "e" / "srt" / "gone.srt"
    stale.write_text("")
    assert export(config).startswith("srt: 4 files in ")
    assert not stale.exists()


def test_a_folder_of_another_program_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (tmp_path / "exports" / "csv").mkdir(parents=True)
    with pytest.raises(InputError, match="no export wrote it"):
        export(build(ExportConfig, {"run": str(run), "format": "csv"}))


@pytest.mark.parametrize(
    ("status", "named", "message"),
    [
        ("complete", "cvs", 'no such format \\(did you mean "csv"'),
        ("running", "csv", "is incomplete; run the same zsfuse score again"),
    ],
)
def test_refused(tmp_path: Path, status: str, named: str, message: str) -> None:
    run = write_run(tmp_path, status)
    with pytest.raises(InputError, match=message):
        export(build(ExportConfig, {"run": str(run), "format": named}))
    assert not (tmp_path / "exports").exists()


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no labels there"):
        export(build(ExportConfig, {"run": str(tmp_path), "format": "csv"}))


def test_help_names_every_format() -> None:
    text = ExportConfig.__dataclass_fields__["format"].metadata["help"]
    assert all(name in text for name in FORMATS)
    assert len({one.suffix for one in FORMATS.values() if isinstance(one, PerRecording)}) == 6
