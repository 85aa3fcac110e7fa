"""The small text encoder, distilled from tiny teachers; its space on words of known position."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn.functional import normalize
from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizer

from dev.mini import text_tower
from dev.mini.emotion_space import Space, Teacher, WordVectors, embed
from dev.mini.emotion_words import LEARNED, TEMPLATES_LEARNED, TEMPLATES_UNSEEN, UNSEEN
from dev.mini.text_tower import TextTowerConfig, build, lessons, near, vocabulary
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labels import SYNONYMS

SPECIAL = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    letters = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    words = ["feeling", "person", "table", "livid", "voice"]
    words += sorted({w for several in LEARNED.values() for w in several if w.isalpha()} - set(words))
    pieces = [*SPECIAL, *letters, *("##" + c for c in letters), *words]
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=len(pieces), hidden_size=64, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=64, initializer_range=0.5,
        )
    ).save_pretrained(folder)  # fmt: skip
    BertTokenizer(vocab={p: i for i, p in enumerate(pieces)}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vectors_folder(tmp_path_factory):
    """Vectors in which each emotion's words, also unseen ones, share a direction; other words are far off."""
    folder = tmp_path_factory.mktemp("vectors")
    random = np.random.default_rng(0)
    words, table = [], []
    for place, (emotion, learned) in enumerate(LEARNED.items()):
        for word in (*learned, *UNSEEN.get(emotion, ())):
            if word.isalpha() and word not in words:
                words.append(word)
                table.append(4 * np.eye(32)[place] + random.normal(0, 0.5, 32))
    for word in ("feeling", "person", "table", "voice"):
        words.append(word)
        table.append(4 * np.eye(32)[31] + random.normal(0, 0.1, 32))
    np.save(folder / "words.npy", np.array(table, np.float32))
    pq.write_table(pa.table({"word": words}), folder / "words.parquet")
    return folder


@pytest.fixture(scope="module")
def space(teacher_folder, vectors_folder):
    return Space(Teacher(str(teacher_folder)), WordVectors(str(vectors_folder)), LEARNED, 32)


def test_tower_is_a_stock_bert_with_mean_pooling(teacher_folder, vectors_folder, tmp_path):
    options = {"teacher": str(teacher_folder), "vectors": str(vectors_folder), "width": 32, "layers": 1}
    figures = {
        steps: build(TextTowerConfig(output=str(tmp_path / str(steps)), steps=steps, words=1000, **options))
        for steps in (1, 150)
    }
    assert figures[150]["cosine_unseen"] > figures[1]["cosine_unseen"] + 0.2
    assert figures[150]["student_unseen_words_unseen_templates"] > 0.4  # chance 0.11
    model, tokenizer = (p.from_pretrained(tmp_path / "150") for p in (BertModel, AutoTokenizer))
    one = embed(model.eval(), tokenizer, ["i am livid"])
    assert one.shape == (1, 32)
    torch.testing.assert_close(embed(model, tokenizer, ["i am livid", "a much longer text, sad"])[:1], one)
    with torch.inference_mode():
        hidden = model(**tokenizer("i am livid", return_tensors="pt")).last_hidden_state
    torch.testing.assert_close(one, normalize(hidden.mean(dim=1), dim=-1))
    assert tokenizer.unk_token_id not in tokenizer("flabbergasted! grossed-out (appalled)?").input_ids
    assert "| student unseen ensembles |" in (tmp_path / "150" / "README.md").read_text()


def test_unseen_words_are_not_in_training(space):
    texts, targets, emotional = lessons(space, ["table", "livid", "angry", "feeling"])
    assert targets.shape == (len(texts), 32)
    assert {text.split()[-1] for text in texts[emotional:] if " " not in text} == {"table", "feeling"}
    learned = " ".join(texts)
    for words in UNSEEN.values():
        assert not any(f"{word} " in learned.replace(".", " ") + " " for word in words)
    assert not set(TEMPLATES_LEARNED) & set(TEMPLATES_UNSEEN)
    assert not {w for several in UNSEEN.values() for w in several} & set(space.known)


def test_target_of_a_text_is_independent_of_the_template(space):
    texts, targets, emotional = lessons(space, [])
    assert emotional == len(texts)
    of = dict(zip(texts, targets, strict=True))
    assert (of["angry"] @ of["speech has angry emotion"]).item() == pytest.approx(1, abs=1e-5)
    assert of["angry"] @ of["fury"] > of["angry"] @ of["joy"] + 0.5


def test_unseen_words_are_near_their_emotion(space):
    """With these vectors nearly all are classified correctly, with shuffled ones few."""
    words = [(emotion, word) for emotion in UNSEEN for word in UNSEEN[emotion] if word.isalpha()]
    centres = normalize(torch.stack([space(LEARNED[emotion][:5]).mean(dim=0) for emotion in UNSEEN]), dim=-1)

    def right():
        guesses = (space([word for _, word in words]) @ centres.T).argmax(dim=1)
        return np.mean([list(UNSEEN)[g] == emotion for g, (emotion, _) in zip(guesses, words, strict=True)])

    assert right() > 0.95
    teacher, vectors = space.sources
    rows = torch.randperm(len(words), generator=torch.Generator().manual_seed(0))
    space.sources = (
        teacher,
        lambda asked: vectors(asked)[rows] if len(asked) == len(words) else vectors(asked),
    )
    assert right() < 0.4
    space.sources = (teacher, vectors)


def test_embedding_is_roots_of_posteriors_and_components(space):
    words = ["angry", "livid", "table"]
    posterior = space.posterior(words)
    torch.testing.assert_close(posterior.sum(dim=1), torch.ones(3))
    assert posterior[0, list(LEARNED).index("angry")] > 0.5  # 0.5 is added for thesaurus words
    plain = torch.from_numpy(space.regression.predict_proba(space.features(words).numpy())).float()
    torch.testing.assert_close(posterior[1:], plain[1:])
    near_emotions = (posterior.sqrt() - space.near) / space.spread * (0.9 / len(LEARNED)) ** 0.5
    rest = space.features(words) @ space.axes * 0.1**0.5
    torch.testing.assert_close(space(words), normalize(torch.cat([near_emotions, rest], dim=1), dim=-1))
    every = [word for several in LEARNED.values() for word in several]
    assert (space.features(every) @ space.axes).square().sum(dim=1).mean().item() == pytest.approx(
        1, abs=1e-3
    )


def test_phrase_vector_is_the_mean_without_stop_words(vectors_folder):
    vectors = WordVectors(str(vectors_folder))
    one, other, both, little, unknown = vectors(["angry", "voice", "Angry voice", "the angry", "qqq"])
    torch.testing.assert_close(both, (one + other) / 2)
    torch.testing.assert_close(little, one)
    assert not unknown.any()


def test_mismatched_vectors_and_words_give_one_line_errors(tmp_path):
    with pytest.raises(InputError, match="needs exactly one"):
        WordVectors(str(tmp_path))
    np.save(tmp_path / "a.npy", np.zeros((3, 2), np.float32))
    pq.write_table(pa.table({"word": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"1 words for vectors of shape \(3, 2\)"):
        WordVectors(str(tmp_path))


def test_words_nearest_to_emotions_come_first(vectors_folder):
    vectors = WordVectors(str(vectors_folder))
    count = len([word for word in vectors.words if len(word) > 2])
    assert set(near(vectors, count)[-4:]) == {"feeling", "person", "table", "voice"}


def test_vocabulary_covers_every_emotion_word(teacher_folder):
    teacher = Teacher(str(teacher_folder))
    pieces = vocabulary(teacher, ["table", "livid"])
    assert pieces[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(set(pieces)) == len(pieces)
    assert "[unused0]" not in pieces
    tokenizer = BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)})
    assert tokenizer.tokenize("livid table") == ["livid", "table"]
    for words in (*LEARNED.values(), *UNSEEN.values()):
        assert "[UNK]" not in tokenizer.tokenize(" ".join(words))
    assert all(word in pieces for words in LEARNED.values() for word in words if word.isalpha())


def test_all_synonyms_are_in_training():
    every = [word for words in LEARNED.values() for word in words]
    assert len(set(every)) == len(every), "one word under two emotions"
    for emotion in UNSEEN:
        assert set(SYNONYMS[emotion]) <= set(LEARNED[emotion])
        assert not set(UNSEEN[emotion]) & set(every)


def test_missing_teachers_give_one_line_error(tmp_path, monkeypatch):
    monkeypatch.setattr(text_tower, "TEACHER_PACKAGE", "no_such_package_here")
    with pytest.raises(InputError, match=r"zsfuse-ray\[distil\]"):
        build(TextTowerConfig(output=str(tmp_path)))
    with pytest.raises(InputError, match="--output is needed"):
        text_tower.main([])
