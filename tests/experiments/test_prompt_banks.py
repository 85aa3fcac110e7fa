"""Every form of the prompts is embedded once, by a model that is loaded once."""

import numpy as np
import pytest

from zsfuse_ray.config.models import PromptOptions
from zsfuse_ray.config.options import build
from zsfuse_ray.errors import InputError
from zsfuse_ray.experiments import prompts
from zsfuse_ray.experiments.evidence import Text
from zsfuse_ray.models.catalog import load, parse_spec

ALM, SPECIALIST = "dual:untrained", "classifier:untrained"
CONFIG = build(PromptOptions, {"templates": ("{}", "a {} voice"), "text_repeats": (1, 2)})


def test_a_bank_for_each_label_set_and_form(monkeypatch):
    loads = []
    monkeypatch.setattr(prompts, "load", lambda spec: loads.append(spec) or load(spec))
    sets = {"one": ("happy", "sad"), "two": ("angry", "happy", "sad")}
    card, banks, _ = prompts._load_and_embed(
        parse_spec(ALM, "alm"), CONFIG, sets, [(1, " "), (1, "! "), (2, " ")]
    )
    assert len(loads) == 1
    forms = {Text(1, " ", 1), Text(2, " ", 1), Text(2, "! ", 1), Text(1, " ", 2), Text(2, " ", 2)}
    assert set(banks["one"]) == set(banks["two"]) == forms
    assert banks["two"][Text(1)].shape[:2] == (2, 3)
    assert banks["one"][Text(1, " ", 2)].shape[:2] == (4, 2)
    model = load(parse_spec(ALM, "alm"))
    for text, place in (("a sad voice", (1, 1)), ("happy", (0, 0))):
        expected = model.embed_text([text])[0][0].numpy()
        np.testing.assert_allclose(banks["one"][Text(1)][place], expected, atol=1e-5)
    expected = model.embed_text(["a sad voice! a sad voice"])[0][0].numpy()
    np.testing.assert_allclose(banks["one"][Text(2, "! ")][1, 1], expected, atol=1e-5)
    assert card["scale"] == model.scale
    assert set(card["prompts_truncated"]) == {"1", "2"}


def test_a_specialist_has_labels_and_no_banks():
    card, banks, _ = prompts._load_and_embed(parse_spec(SPECIALIST, "specialist"), CONFIG, {}, [])
    assert "sad" in card["labels"]
    assert card["model"] == SPECIALIST
    assert not banks


def test_specialist_without_common_labels_is_rejected():
    sets = {"one": ("sad", "bored"), "two": ("bored", "tired")}
    message = "--specialist s covers none of the labels of two, bored, tired; its own are sad, calm"
    with pytest.raises(InputError, match=message):
        prompts._check_labels("s", ("sad", "calm"), sets)
