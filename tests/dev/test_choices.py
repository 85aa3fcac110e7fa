"""Cross-validated choices and the evidence of the recipe, on vectors whose emotions are known."""

import json
from itertools import product

import numpy as np
import pytest

from dev.mini import choices, evidence, heads, words
from dev.mini.choices import WEIGHTS, Choice, Outputs, choose, folds, held_out, outputs, speakers_of
from dev.mini.evidence import of_seed
from dev.mini.heads import Clips, fit, joined
from tests.dev.test_heads import LABELS, captions, clips
from zsfuse_ray.method.fusion import specialist_on_labels
from zsfuse_ray.method.labelling import Labelling, posteriors
from zsfuse_ray.method.labels import map_labels
from zsfuse_ray.method.metrics import ece

BANK = np.stack([np.stack([captions()[label][n] for label in LABELS]) for n in range(4)])


@pytest.fixture(autouse=True)
def _short(monkeypatch) -> None:
    monkeypatch.setattr(heads, "STEPS", 60)


def test_folds_share_no_speaker_and_contain_every_corpus() -> None:
    one = clips(0, speakers=12)
    fold = folds(one, 3)
    for speaker in np.unique(one.speakers):
        assert len(set(fold[one.speakers == speaker])) == 1
    for number in range(3):
        assert set(one.corpora[fold == number]) == {0, 1}


def test_held_out_clips_are_labelled_by_heads_of_the_other_folds(monkeypatch) -> None:
    one, seen = clips(1), []
    monkeypatch.setattr(choices, "fit", lambda part, *given: seen.append(part) or fit(part, *given))
    fold = folds(one, 4)
    found = held_out(one, fold, captions(), BANK, 8, 0)
    assert len(seen) == 4
    for number, part in enumerate(seen):
        assert not set(part.speakers) & set(one.speakers[fold == number])
        own = outputs(fit(part, captions(), 8, 0), one.of(fold == number), BANK)
        np.testing.assert_allclose(found["none"].logits[fold == number], own.logits, atol=1e-5)
    assert (found["speaker"].logits != found["none"].logits).any()


def random_outputs(n: int, seed: int) -> tuple[Clips, dict[str, Outputs]]:
    """Outputs of two models that are right more often than not, the first over-confident."""
    rng = np.random.default_rng(seed)
    one = clips(seed, speakers=8, each=n // 8)
    right = np.eye(3)[one.targets]
    known = np.ones((len(right), 3), bool)

    def noisy(scale: float) -> np.ndarray:
        return scale * (right + rng.normal(size=right.shape))

    return one, {mode: Outputs(noisy(9), noisy(1), known) for mode in choices.MODES}


def test_choices_minimise_the_likelihood_over_speakers() -> None:
    one, found = random_outputs(320, 3)
    choice = choose(one, [found])

    def loss(tried: Choice) -> float:
        total = 0.0
        for own in found.values():
            p = own.fused(one.possible, tried)[np.arange(len(one.targets)), one.targets]
            total -= sum(np.log(p[one.corpora == corpus]).mean() for corpus in (0, 1))
        return total

    assert choice.specialist_temperature > 3
    assert choice.temperature < choice.specialist_temperature
    for weight, factor in product(WEIGHTS, (0.8, 1.0, 1.25)):
        if (weight, factor) != (choice.weight, 1.0):
            tried = Choice(
                float(weight),
                choice.temperature,
                choice.specialist_temperature,
                choice.fused_temperature * factor,
            )
            # the weight is chosen before the temperature after fusion
            assert loss(tried) > loss(choice) - 0.02
    before = Choice(choice.weight, 1.0, 1.0, 1.0)
    errors = [ece(found["none"].fused(one.possible, tried), one.targets) for tried in (before, choice)]
    assert errors[1] < errors[0]


def test_posteriors_equal_those_of_labelling() -> None:
    """For each corpus' own labels, one of which the specialist was not trained on."""
    rng = np.random.default_rng(5)
    one = clips(2)
    trained = fit(one.of(one.corpora == 1), captions(), 8, 0)  # without angry
    choice = Choice(0.3, 1.4, 0.7, 0.9)
    for corpus in (0, 1):
        part = one.of((one.corpora == corpus) & (rng.random(len(one.targets)) < 0.5))
        own = outputs(trained, part, BANK, speakers_of(part))
        found = own.fused(part.possible, choice)
        labels = tuple(label for label, yes in zip(LABELS, part.possible[0], strict=True) if yes)
        theirs = ("neutral", "sad")
        labelling = Labelling(
            labels, BANK[:, part.possible[0]], np.exp(trained.log_scale), theirs, "embedding",
            choice.temperature, "linear", choice.weight, 0.0, choice.specialist_temperature,
            choice.fused_temperature,
        )  # fmt: skip
        assert map_labels(theirs, labels).any()
        vectors = choices.normalised(trained.standardised(part.vectors), speakers_of(part))
        expected, q, _ = posteriors(labelling, trained.embeddings(vectors)[:, None], own.logits[:, 1:], None)
        np.testing.assert_allclose(found[:, part.possible[0]], expected, atol=1e-6)
        mapped = specialist_on_labels(own.logits[:, 1:], map_labels(theirs, labels), 0.7)
        np.testing.assert_allclose(mapped, q, atol=1e-6)


def test_evidence_leaves_out_test_speakers_and_corpora(monkeypatch, tmp_path) -> None:
    other = clips(9, speakers=4)
    other = other.of(other.corpora == 0).among(LABELS, 2, 100)
    every = joined([clips(4), other])
    is_test = np.isin(every.speakers, (6, 7))
    seen = []
    monkeypatch.setattr(evidence, "fit", lambda part, *given: seen.append(part) or fit(part, *given))
    monkeypatch.setattr(evidence, "DRAWS", 2)
    found = of_seed(every, is_test, ["a", "b", "c"], ["c"], captions(), BANK, 8, 0)
    assert set(found["held out"]) == {"a", "b"}
    assert set(found["left out"]) == {"a", "b", "c"}
    for part in seen:
        assert not set(part.speakers) & {6, 7, *other.speakers}
    assert [set(part.corpora) for part in seen] == [{0, 1}, {1}, {0}]
    assert found["held out"]["a"]["none"]["ua zs_fuse"] > 0.6
    text = evidence.write({0: found, 1: found}, tmp_path)
    value = f"{100 * found['left out']['c']['speaker']['ua specialist']:.1f}"
    assert f"| c | left out | speaker | {value} ({value} to {value}) |" in text
    assert json.loads((tmp_path / "evidence.json").read_text())["1"]["choice"] == found["choice"]


def test_skewed_archives_are_mostly_neutral() -> None:
    one = clips(3, speakers=10, each=40)
    rows = evidence._mostly_neutral(one, np.random.default_rng(0))
    assert len(set(rows)) == len(rows)
    part = one.of(rows)
    for speaker in np.unique(part.speakers):
        share = np.mean(part.targets[part.speakers == speaker] == LABELS.index("neutral"))
        assert share == pytest.approx(0.8, abs=0.05)


def test_words_are_measured_on_dev_speakers(monkeypatch) -> None:
    one, seen = clips(6), []
    split = np.where(one.speakers < 4, "train", np.where(one.speakers < 6, "dev", "test"))
    monkeypatch.setattr(words, "fit", lambda part, *given: seen.append(part) or fit(part, *given))
    wrong = BANK[:, [1, 2, 0]]
    found = words.measure_words(one, split, captions(), {"right": [BANK], "both": [BANK, wrong]}, 8, 0)
    assert set(seen[0].speakers) == {0, 1, 2, 3}
    assert found["right"] > 0.5
    assert found["both"] < found["right"] - 0.05


def test_a_prior_gives_the_wanted_mean() -> None:
    one, found = random_outputs(160, 8)
    possible = np.ones((len(one.targets), 3), bool)
    wanted = np.array([0.2, 0.7, 0.1])
    choice = Choice(0.4, 1.3, 0.8, 0.9)
    moved = found["none"].fused(possible, choice, wanted)
    np.testing.assert_allclose(moved.mean(axis=0), wanted, atol=1e-4)
    assert abs(found["none"].fused(possible, choice).mean(axis=0) - wanted).max() > 0.1
