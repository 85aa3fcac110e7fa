"""Captions verified against the meaning parsed from their words."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labels import SYNONYMS, canonical
from zsfuse_ray.training.captions import CAPTIONS, captions_of, placeholders

EMOTIONS = ("Anger", "happy", "sadness", "bureaucratic")
GENDERS = ("male", "female", None)
TEMPLATES = ("{emotion}", "a {gender} voice", "{emotion} {gender}", "{} spoken {style}", "{emotion}!")

rows = st.lists(
    st.tuples(st.sampled_from(EMOTIONS), st.sampled_from(GENDERS), st.sampled_from(("loudly", None))),
    min_size=1,
    max_size=8,
)


def table(rows, corpora=None):
    emotion, gender, style = zip(*rows, strict=True)
    columns = {
        "uri": [f"{i}.wav" for i in range(len(rows))],
        "emotion": pa.array(emotion, pa.string()),
        "gender": pa.array(gender, pa.string()),
        "style": pa.array(style, pa.string()),
    }
    return pa.table(columns | ({"corpus": corpora} if corpora else {}))


def claims_of(template, row):
    """The claims of a caption of the row: column → meaning."""
    meaning = {"emotion": canonical(row[0]), "gender": row[1], "style": row[2]}
    return {name: meaning[name] for name in placeholders(template)}


@settings(deadline=None)
@given(rows, st.integers(0, 1000))
def test_caption_is_true_if_all_its_claims_are(rows, seed):
    captions = captions_of(table(rows), TEMPLATES)
    n = np.arange(len(rows))
    templates = np.array([captions.draw(i, seed + i)[0] for i in n])
    true, known = captions.truth(n, n, templates)
    for i, clip in enumerate(rows):
        own = {"emotion": canonical(clip[0]), "gender": clip[1], "style": clip[2]}
        for j, row in enumerate(rows):
            claims = claims_of(captions.templates[templates[j]], row)
            differs = any(own[name] not in (None, value) for name, value in claims.items())
            lacking = any(own[name] is None for name in claims)
            assert true[i, j] == (not differs and not lacking)
            assert known[i, j] == (differs or not lacking)
    assert true.diagonal().all()


@settings(deadline=None)
@given(rows, st.integers(0, 1000), st.integers(1, 5))
def test_caption_is_the_template_filled_from_the_row(rows, seed, words):
    captions = captions_of(table(rows), TEMPLATES, words)
    for i, (emotion, gender, style) in enumerate(rows):
        template, text = captions.draw(i, seed)
        assert (template, text) == captions.draw(i, seed)
        forms = SYNONYMS.get(canonical(emotion), (canonical(emotion),))[:words]
        pattern = captions.templates[template].replace("{}", "{emotion}")
        assert text in {pattern.format(emotion=form, gender=gender, style=style) for form in forms}
        assert "None" not in text


def test_every_template_and_synonym_is_drawn():
    captions = captions_of(table([("angry", "male", None)]), ("I am {}", "{emotion}"), words=3)
    drawn = {captions.draw(0, seed) for seed in range(200)}
    words = ("angry", "anger", "mad")
    assert drawn == {(t, text.format(w)) for t, text in enumerate(("I am {}", "{}")) for w in words}


def test_synonyms_are_equal_and_unstated_gender_does_not_differ():
    captions = captions_of(table([("anger", "male", None), ("furious", "female", None)]), ("{emotion}",))
    true, known = captions.truth(np.arange(2), np.arange(2), np.zeros(2, int))
    assert true.all()
    assert known.all()


def test_emotion_absent_from_a_corpus_is_unknown_not_false():
    rows = [("neutral", None, None), ("calm", None, None), ("sad", None, None)]
    clips = table(rows, ["a", "b", "b"])
    n = np.arange(3)
    for mask, expected in ((False, np.ones((3, 3))), (True, [[1, 0, 0], [0, 1, 1], [0, 1, 1]])):
        captions = captions_of(clips, ("{}",), mask_unknown=mask)
        true, known = captions.truth(n, n, np.zeros(3, int))
        assert np.array_equal(true, np.eye(3))
        assert np.array_equal(known, expected)


def test_user_defined_columns():
    clips = table([("angry", "male", None)]).append_column("accent", pa.array(["Scottish"]))
    assert captions_of(clips, ("a {accent} accent",)).draw(0, 0) == (0, "a scottish accent")


def test_default_captions_need_only_an_emotion():
    captions = captions_of(table([("angry", None, None)]))
    assert all(placeholders(t) == ("emotion",) for t in captions.templates)
    assert len(captions.templates) > 5
    full = captions_of(
        table([("angry", "male", "whispered")]).append_column("intensity", pa.array(["strong"]))
    )
    assert full.templates == CAPTIONS


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        (("angry",), "needs {emotion}"),
        (("{emotion.__class__}",), "no other brace"),
        (("{emotion!r} {gender}",), "no other brace"),
        (("{{emotion}}",), "no other brace"),
        (("{accent}",), "no column accent.*one of emotion, gender, style"),
        (("a {emotoin} voice",), 'no column emotoin.*did you mean "emotion"'),
        (("a {gender} voice",), "1.wav: no caption can be filled"),
        (("x" * 400 + "{}",), "at most 300"),
    ],
)
def test_invalid_templates_give_one_line_errors(templates, message):
    with pytest.raises(InputError, match=message) as error:
        captions_of(table([("angry", "male", None), ("sad", None, None)]), templates)
    assert "\n" not in str(error.value)
