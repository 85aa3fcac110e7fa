"""Evaluation of real files on Ray: the tables match the models' outputs for the clips."""

import json

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score

from tests.jobs.jobs_support import lines, scored, speech, write_wav
from tests.models.tiny_pooled import write_pooled
from zsfuse_ray.audio.resample import resample
from zsfuse_ray.audio.trim import trimmed
from zsfuse_ray.method.zeroshot import softmax
from zsfuse_ray.models.catalog import load, parse_spec

LABELS = ("angry", "happy", "sad")
SPEAKERS = {"a": "train", "b": "train", "c": "dev", "d": "test", "e": "test"}


@pytest.fixture(scope="module")
def evaluated(run_job, tmp_path_factory):
    """Five speakers' clips and a broken one, evaluated: the folder of clips, the output, the finished job."""
    folder = tmp_path_factory.mktemp("labelled")
    rows = []
    for s, (speaker, split) in enumerate(SPEAKERS.items()):
        for n, label in enumerate(LABELS * 2):
            samples = np.concatenate([np.zeros(8000), speech(1.0 + 0.2 * s, seed=n % 3), np.zeros(4000)])
            path = write_wav(folder / f"{speaker}{n}.wav", samples)
            rows.append({"uri": path.name, "emotion": label, "speaker": speaker, "split": split})
    (folder / "broken.wav").write_bytes(b"RIFF....WAVE")
    rows.append({"uri": "broken.wav", "emotion": "sad", "speaker": "e", "split": "test"})
    pd.DataFrame(rows).to_csv(folder / "clips.csv", index=False)
    out = folder / "out"
    done = run_job(
        *("evaluate", "--input", folder / "clips.csv", "--output", out, "--resamples", 200),
        *("--preset", "untrained"),
        *("--audio-repeats", "1,2", "--text-repeats", "1,2", "--templates", "{}|i hear {}"),
    )
    return folder, out, done


def test_it_prints_the_results_and_where_they_are(evaluated):
    _, out, done = evaluated
    printed = scored(done)
    assert "| ZS-Fuse |" in printed
    assert str(out) in printed
    assert any("UNTRAINED" in line for line in lines(done.stderr))
    assert any("1 of 31 clips could not be read" in line for line in lines(done.stderr))
    assert len(list((out / "figures").iterdir())) == 10


def test_the_table_matches_the_predictions(evaluated):
    _, out, _ = evaluated
    table = json.loads((out / "evaluation.json").read_text())["corpora"]["clips"]
    predictions = pd.read_parquet(out / "predictions.parquet")
    assert set(predictions.speaker) == {"d", "e"}
    assert len(predictions) == table["clips"] == 12
    for system in ("svm", "specialist", "alm_ensemble", "alm_amplified", "zs_fuse", "stacked", "zs_fuse_svm"):
        posteriors = np.stack(predictions[system])
        np.testing.assert_allclose(posteriors.sum(axis=1), 1, atol=1e-6)
        named = np.array(table["labels"])[posteriors.argmax(axis=1)]
        figures = table["systems"][system]
        assert figures["ua"]["value"] == pytest.approx(balanced_accuracy_score(predictions.emotion, named))
        f1 = f1_score(predictions.emotion, named, average="macro")
        assert figures["macro_f1"]["value"] == pytest.approx(f1)
    assert table["protocol"]["speaker_overlap"] == "none"
    assert table["protocol"]["rejected"] == 1


def test_each_clip_is_encoded_without_its_silent_edges(evaluated):
    folder, out, _ = evaluated
    predictions = pd.read_parquet(out / "predictions.parquet").set_index("uri")
    (corpus,) = json.loads((out / "evaluation.json").read_text())["corpora"].values()
    temperature = corpus["choices"][0]["specialist"]["temperature"]
    specialist = load(parse_spec("classifier:untrained", "specialist"))
    own = [label for label in specialist.labels if label in LABELS]
    for name in ("d0.wav", "e5.wav"):
        samples, rate = soundfile.read(folder / name, dtype="int16")
        start, end = trimmed(samples, rate)
        assert 0 < start < end < len(samples)
        clip = resample(torch.from_numpy(samples[start:end].copy()), rate, specialist.sample_rate)
        posterior = softmax(specialist.classify([clip])[0].numpy() / temperature)[0]
        known = np.array([posterior[specialist.labels.index(label)] for label in own])
        row = predictions.loc[str(folder / name)]
        found = [row["specialist"][list(row["labels"]).index(label)] for label in own]
        # logits are stored as float16, and a temperature below 1 enlarges the rounding
        np.testing.assert_allclose(found, known / known.sum(), atol=2e-3)


def test_unreadable_clips_are_listed(evaluated):
    _, out, _ = evaluated
    (reject,) = pd.read_parquet(out / "rejects").to_dict("records")
    assert reject["uri"].endswith("broken.wav")
    assert reject["stage"] == "decode"
    assert json.loads((out / "evaluation.json").read_text())["rejects"] == {reject["reason"]: 1}


def test_a_second_evaluation_in_the_same_folder_is_refused(evaluated, run_job):
    folder, out, _ = evaluated
    again = run_job("evaluate", "--input", folder / "clips.csv", "--output", out)
    assert again.returncode == 2
    assert "--overwrite" in again.stderr


def test_a_specialist_with_other_labels_is_refused(evaluated, run_job, tmp_path):
    folder, _, _ = evaluated
    table = pd.read_csv(folder / "clips.csv")
    table["uri"] = [str(folder / uri) for uri in table.uri]
    table["emotion"] = table.emotion.map({"angry": "bored", "happy": "calm", "sad": "disgust"})
    table.to_csv(tmp_path / "others.csv", index=False)
    others = ["--input", tmp_path / "others.csv", "--output", tmp_path / "out", "--preset", "untrained"]
    refused = run_job("evaluate", *others)
    assert refused.returncode == 2
    assert "covers none of the labels of others, " in lines(refused.stderr)[-1]
    assert not (tmp_path / "out" / "evaluation.json").exists()


def test_evaluate_measures_what_score_labels_with_normalised_vectors(run_job, tmp_path):
    """ZS-Fuse as given equals score with --normalise speaker, from audio and from an embedding table."""
    write_pooled(tmp_path / "pooled")
    rows = []
    for s, speaker in enumerate("abcde"):
        for n in range(4):
            path = write_wav(tmp_path / f"{speaker}{n}.wav", speech(0.8 + 0.1 * s, seed=10 * s + n))
            rows.append({"uri": path.name, "emotion": ("sad", "happy")[n % 2], "speaker": speaker})
    pd.DataFrame(rows).to_csv(tmp_path / "clips.csv", index=False)
    place = ("--input", tmp_path / "clips.csv")
    models = ("--alm", f"pooled-alm:{tmp_path}/pooled", "--specialist", f"pooled:{tmp_path}/pooled")
    how = ("--templates", "{}", "--weight", 0.3, "--temperature", 1.5, "--specialist-temperature", 0.7)
    how = (*how, "--fused-temperature", 0.8)
    segments = ("--vad", "none", "--max-segment-s", 60, "--normalise", "speaker", "--labels", "happy,sad")
    scored(run_job("score", *place, "--output", tmp_path / "scored", *models, *how, *segments))
    table = pd.read_parquet(tmp_path / "scored" / "segments").set_index("recording_uri")
    sources = {"audio": (*place, *models), "table": ("--embeddings", tmp_path / "scored")}
    for name, source in sources.items():
        out = tmp_path / name
        options = (*how, "--folds", 5, "--resamples", 100, "--output", out)
        scored(run_job("evaluate", *source, *options))
        assert json.loads((out / "evaluation.json").read_text())["normalised"] == ["alm", "specialist"]
        for row in pd.read_parquet(out / "predictions.parquet").itertuples():
            expected = table.loc[row.uri, ["p_happy", "p_sad"]].to_numpy(float)
            assert list(row.labels) == ["happy", "sad"]
            np.testing.assert_allclose(row.zs_fuse_given, expected, atol=1e-5)
