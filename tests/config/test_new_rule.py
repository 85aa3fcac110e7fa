"""A new training-free rule is one record in RULES: fusion, search and options then support it."""

import numpy as np
import pytest

from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.config.options import parse
from zsfuse_ray.config.score import ScoreConfig
from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.method import metrics
from zsfuse_ray.method.fusion import RULES, FusionRule, fuse
from zsfuse_ray.method.search import Block, fold_scores, members, prompt_gram, prompt_scores, subsets
from zsfuse_ray.method.zeroshot import posterior

NEEDED = ["--input", "clips.csv", "--output", "out"]
QUADRATIC = FusionRule(
    "quadratic", "root of the mean square", lambda q, p, w: np.sqrt((1 - w) * q**2 + w * p**2)
)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, QUADRATIC.name, QUADRATIC)


def inputs():
    """Audio (20, 6), two prompts of text (2, 3, 6), specialist posteriors (20, 3), targets and folds."""
    rng = np.random.default_rng(0)
    audio, text = rng.normal(size=(20, 6)), rng.normal(size=(2, 3, 6))
    audio, text = ((x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32) for x in (audio, text))
    return audio, text, rng.dirichlet(np.ones(3), 20), rng.integers(0, 3, 20), np.arange(20) % 2


def test_fuse_applies_the_rule():
    fused = fuse([[0.6, 0.4]], [[0.8, 0.2]], 0.5, "quadratic", np.ones(2, bool))
    expected = np.sqrt([0.5 * 0.6**2 + 0.5 * 0.8**2, 0.5 * 0.4**2 + 0.5 * 0.2**2])
    np.testing.assert_allclose(fused[0], expected / expected.sum())


@pytest.mark.parametrize("objective", ["ua", "macro_f1", "nll"])
@pytest.mark.parametrize("n_covered", [2, 3])
def test_the_search_equals_brute_force(objective: str, n_covered: int):
    audio, text, specialist, targets, folds = inputs()
    inside = np.arange(3) < n_covered
    specialist = specialist * inside / (specialist * inside).sum(axis=1, keepdims=True)
    block = Block(
        *(prompt_scores(audio, text, 5.0), prompt_gram(text), specialist, inside, targets, folds),
        fusion="quadratic",
        objective=objective,
    )
    masks = subsets(2)
    found = np.concatenate([scores for _, scores in fold_scores(block, masks, np.float64)])
    for k, chosen in enumerate(members(masks, 2)):
        p = posterior(audio, text[chosen], 5.0)
        for w, weight in enumerate(block.weights):
            fused = fuse(specialist, p, float(weight), "quadratic", inside)
            for fold in (0, 1):
                rows = folds == fold
                if objective == "nll":
                    expected = -metrics.nll(fused[rows], targets[rows])
                else:
                    expected = getattr(metrics, objective)(targets[rows], fused[rows].argmax(axis=1), 3)
                assert found[k, fold, w] == pytest.approx(expected, abs=1e-6)


def test_options_accept_the_rule():
    assert parse(ScoreConfig, [*NEEDED, "--fusion", "quadratic"], "")[0].fusion == "quadratic"
    assert parse(EvaluateConfig, [*NEEDED, "--fusion", "quadratic"], "")[0].fusion == "quadratic"
    fusions = parse(TuneConfig, [*NEEDED, "--fusions", "linear,quadratic"], "")[0].fusions
    assert fusions == ("linear", "quadratic")


@pytest.mark.parametrize(
    ("kind", "name"), [(ScoreConfig, "fusion"), (EvaluateConfig, "fusion"), (TuneConfig, "fusions")]
)
def test_options_suggest_the_rule_for_a_misspelled_name(kind, name: str):
    with pytest.raises(InputError, match=r'no fusion rule quadratik \(did you mean "quadratic"\?\)'):
        parse(kind, [*NEEDED, f"--{name}", "quadratik"], "")
