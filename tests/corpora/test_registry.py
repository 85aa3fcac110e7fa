"""The corpus records; a new corpus needs only a reader and a record."""

import csv
import logging
from pathlib import Path

import pytest

from tests.corpora.fake_corpora import refusal, write
from zsfuse_ray.config.options import load_config
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.corpora.load import load
from zsfuse_ray.corpora.readers import read
from zsfuse_ray.corpora.registry import CORPORA, Corpus, licences
from zsfuse_ray.experiments.protocol import protocol
from zsfuse_ray.method.labels import SYNONYMS, canonical, label_set


def test_corpus_labels_are_valid_label_sets_with_synonyms():
    for corpus in CORPORA.values():
        assert label_set(corpus.labels) == corpus.labels
        assert {canonical(label) for label in corpus.labels} <= SYNONYMS.keys()


@pytest.mark.parametrize("name", ["ravdess", "emodb", "nemo"])
def test_corpus_labels_match_the_metadata(name: str, shared):
    with open(shared / "corpora" / name / "metadata.csv") as file:
        assert {row["emotion"] for row in csv.DictReader(file)} == set(CORPORA[name].labels)


def test_records_have_name_and_licence():
    for name, corpus in CORPORA.items():
        assert name == corpus.name
        assert corpus.looks_for
        assert licences()[name]


def test_new_corpus_needs_only_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def read_lines(folder):
        return [
            dict(zip(("uri", "emotion", "speaker", "split"), line.split(), strict=True))
            for path in folder.named("new.txt")
            for line in folder.text(path).splitlines()
        ]

    record = Corpus(
        "new", read_lines, "a file new.txt", "free", ("sad", "joy"), "awe counts as joy", shares_speakers=True
    )
    monkeypatch.setitem(CORPORA, "new", record)
    assert 'did you mean "new"' in refusal(read, f"neww:{tmp_path}")
    write(tmp_path / "empty" / "x.txt", "")
    assert "contains no new (looked for a file new.txt)" in refusal(read, f"new:{tmp_path}/empty")
    lines = [
        f"{part}{n}.wav {label} me {part}"
        for part in ("train", "dev", "test")
        for n, label in enumerate(("sad", "joy"))
    ]
    write(tmp_path / "it" / "new.txt", *lines)
    with caplog.at_level(logging.WARNING):
        clips = load([f"new:{tmp_path}/it"])
    assert "its own splits share 1 speakers" in caplog.text
    assert protocol(clips, "new", 2, None).facts["merged"] == "awe counts as joy"
    monkeypatch.setitem(CORPORA, "new", Corpus("new", read_lines, "a file new.txt", "free", ("sad", "joy")))
    assert "speaker me of new is in both" in refusal(load, [f"new:{tmp_path}/it"])
    config, _ = load_config(ScoreConfig, input="demo", output="out", labels="new")
    assert config.labels == ("sad", "joy")
    assert licences()["new"] == "free"
