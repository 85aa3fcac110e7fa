"""The shipped models: their files, cards and published results."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from sklearn.metrics import balanced_accuracy_score

from dev.mini.emotion_words import LEARNED, TEMPLATES_LEARNED, TEMPLATES_UNSEEN, UNSEEN
from zsfuse_ray.config.options import parse
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.corpora import load as corpora
from zsfuse_ray.method.labels import SYNONYMS
from zsfuse_ray.method.prompts import TEMPLATES, prompt_grid
from zsfuse_ray.method.zeroshot import scores
from zsfuse_ray.models.catalog import ModelSpec, load, parse_spec, quality
from zsfuse_ray.models.checkpoints.find import SHIPPED, WEIGHTS, resolve
from zsfuse_ray.training.clips import decoded_clip

SPECS = [parse_spec("mini", "alm"), parse_spec("mini", "specialist")]


def test_shipped_names_are_checkpoints():
    assert [ModelSpec("pooled-alm", "mini"), ModelSpec("pooled", "mini")] == SPECS
    assert resolve("mini").folder == WEIGHTS / "mini"
    assert sorted(path.name for path in WEIGHTS.iterdir() if path.is_dir()) == sorted(SHIPPED)


def test_weights_are_small_safetensors_in_half_precision():
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 35e6
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md"}
    for name in SHIPPED:
        with safe_open(WEIGHTS / name / "model.safetensors", "pt") as weights:
            kinds = {str(weights.get_tensor(key).dtype) for key in weights.keys()}  # noqa: SIM118
        assert kinds == {"torch.float16"}, name


def test_specialist_has_the_default_labels():
    config, preset = parse(ScoreConfig, ["--input", "demo", "--output", "out"], "")
    assert preset == "mini"
    assert set(config.labels) <= set(load(SPECS[1]).labels)


@pytest.mark.parametrize("name", SHIPPED)
def test_model_cards_state_data_licence_command_and_results(name):
    card = (WEIGHTS / name / "README.md").read_text()
    first = card.partition("\n---\n")[2].splitlines()[0]
    assert "non-commercial" in first
    assert "MIT licence" in card
    for fact in ("ravdess (CC BY-NC-SA 4.0", "python -m dev.mini --corpora", "# Held-out speakers"):
        assert fact in card
    for text in (card, (WEIGHTS / name / "config.json").read_text()):
        assert not re.search(r"(?<![\w.:-])/(home|root|tmp|work|usr)/", text)
    found = resolve(name)
    assert found.licence == "CC BY-NC-SA 4.0, non-commercial; free for research"
    assert found.trained_on == ("emodb", "nemo", "ravdess")


@pytest.mark.parametrize("name", SHIPPED)
def test_licence_of_the_weights_matches_the_corpora(name):
    (trained_on,) = re.findall(
        r"^Trained on (.+): the use of", (WEIGHTS / name / "README.md").read_text(), re.M
    )
    terms = dict(re.findall(r"(\w+) \((.+?)\)", trained_on))
    assert set(terms) == {"emodb", "nemo", "ravdess"}
    licence = (WEIGHTS / "LICENSE.md").read_text()
    assert f"`{name}`" in licence
    for corpus, term in terms.items():
        assert f"| {corpus} | {term}" in licence


def test_figures_match_the_weights():
    figures = quality(SPECS)
    assert figures is not None
    assert figures["models"] == dict.fromkeys(("alm", "specialist"), resolve("mini").revision)
    assert quality(SPECS[:1]) is None
    config, _ = parse(ScoreConfig, ["--input", "demo", "--output", "out", "--preset", "mini"], "")
    assert figures["preset"] == {name: getattr(config, name) for name in figures["preset"]}
    assert set(figures["preset"]) >= {"weight", "temperature", "specialist_temperature", "fused_temperature"}
    assert quality([ModelSpec("clap", "untrained"), SPECS[1]]) is None


def test_quality_minimum():
    """Minimum quality, without normalisation: fused 10 points above the SVM on every corpus; the means."""
    ua = json.loads((WEIGHTS / "figures.json").read_text())["ua"]
    assert set(ua) == {"ravdess", "emodb", "nemo"}
    mean = {name: sum(of[name] for of in ua.values()) / 3 for name in next(iter(ua.values()))}
    assert all(of["zs_fuse_given"] > of["svm"] + 0.1 for of in ua.values())
    assert mean["zs_fuse_given"] > 0.73
    assert mean["specialist"] > 0.73
    assert mean["alm_ensemble"] > 0.62


def test_loading_makes_no_network_requests():
    code = """
import socket
def no(*given, **named): raise OSError("no network")
socket.socket.connect = no
from zsfuse_ray.models.catalog import load, parse_spec
load(parse_spec("mini", "alm")), load(parse_spec("mini", "specialist"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def encoded(shared):
    """Test clips of each corpus (every third of the largest), encoded by both models."""
    folder = shared / "corpora"
    clips = corpora.load([f"{name}:{folder / name}" for name in ("ravdess", "emodb", "nemo")], "mini")
    rows = [row for row in clips.to_pylist() if row["split"] == "test"]
    rows = [row for n, row in enumerate(rows) if row["corpus"] != "nemo" or n % 3 == 0]
    alm, specialist = (load(spec) for spec in SPECS)
    audio = [decoded_clip(row["uri"], None, None, alm.sample_rate) for row in rows]
    floats = [torch.from_numpy(samples) / 32768 for samples in audio]
    embeddings = torch.stack([mean_embedding(alm, clip) for clip in floats])
    logits = torch.cat([specialist.classify([clip[: specialist.window]])[0] for clip in floats])
    return rows, alm, embeddings.numpy(), specialist.labels, logits.numpy()


def mean_embedding(alm, clip):
    """Return the mean embedding over a clip's windows."""
    windows = clip.split(alm.window)
    windows = [w for w in windows if len(w) > alm.window // 4] or windows[:1]
    return alm.embed_audio(list(windows)).mean(dim=0)


def mean_ua(rows, labels, scores):
    """Return the mean UA over corpora, each restricted to its own labels."""
    found = []
    for corpus in ("ravdess", "emodb", "nemo"):
        its = np.array([row["corpus"] == corpus for row in rows])
        targets = [row["emotion"] for row, yes in zip(rows, its, strict=True) if yes]
        known = [place for place, label in enumerate(labels) if label in targets]
        guesses = [labels[known[k]] for k in scores[its][:, known].argmax(axis=1)]
        found.append(balanced_accuracy_score(targets, guesses))
    return float(np.mean(found))


def test_both_models_beat_chance_on_unseen_speakers(encoded):
    rows, alm, embeddings, labels, logits = encoded
    chance = np.mean([1 / 8, 1 / 7, 1 / 6])
    assert mean_ua(rows, labels, logits) > chance + 0.4
    bank, _ = alm.embed_text([p for row in prompt_grid(labels, TEMPLATES) for p in row])
    scored = scores(embeddings, bank.numpy().reshape(-1, len(labels), bank.shape[1]), alm.scale)
    assert mean_ua(rows, labels, scored) > chance + 0.4


def test_unseen_words_and_templates_lose_little(encoded):
    """With one word per emotion, words and templates missing from the captions lose less than 6 points.

    Words that the text encoder was not trained on either (UNSEEN) lose more.
    """
    rows, alm, embeddings, labels, _ = encoded

    def ua_of(words, templates):
        texts = [t.replace("{}", words[label]) for t in templates for label in labels]
        bank = alm.embed_text(texts)[0].numpy().reshape(len(templates), len(labels), -1)
        return mean_ua(rows, labels, scores(embeddings, bank, alm.scale))

    def mean_over(words, times):
        picked = ({k: words[k][n % len(words[k])] for k in labels} for n in range(times))
        return np.mean([ua_of(one, TEMPLATES_UNSEEN) for one in picked])

    seen = ua_of({label: label for label in labels}, TEMPLATES_LEARNED)
    assert ua_of({label: label for label in labels}, TEMPLATES_UNSEEN) > seen - 0.02
    uncaptioned = {k: [word for word in LEARNED[k] if word not in SYNONYMS[k]] for k in labels}
    assert mean_over(uncaptioned, 10) > seen - 0.06
    assert mean_over(UNSEEN, 5) > seen - 0.2
