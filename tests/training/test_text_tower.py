"""The small text encoder, distilled from a tiny teacher; its space against one computed by hand."""

import pytest
import torch
from torch.nn.functional import normalize
from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizer

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.labels import SYNONYMS
from zsfuse_ray.training import text_tower
from zsfuse_ray.training.emotion_space import Teacher, embed, emotion_space
from zsfuse_ray.training.emotion_words import LEARNED, TEMPLATES_LEARNED, TEMPLATES_UNSEEN, UNSEEN
from zsfuse_ray.training.text_tower import TextTowerConfig, build, frequent, lessons, vocabulary

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


def test_a_tower_is_a_stock_bert_whose_mean_is_the_embedding(teacher_folder, tmp_path):
    options = {"teacher": str(teacher_folder), "width": 32, "layers": 1, "words": 20}
    figures = {
        steps: build(TextTowerConfig(output=str(tmp_path / str(steps)), steps=steps, **options))
        for steps in (1, 150)
    }
    name = "student_learned_words_learned_templates"
    assert figures[150][name] > figures[1][name] + 0.2
    model, tokenizer = (p.from_pretrained(tmp_path / "150") for p in (BertModel, AutoTokenizer))
    one = embed(model.eval(), tokenizer, ["i am livid"])
    assert one.shape == (1, 32)
    torch.testing.assert_close(embed(model, tokenizer, ["i am livid", "a much longer text, sad"])[:1], one)
    with torch.inference_mode():
        hidden = model(**tokenizer("i am livid", return_tensors="pt")).last_hidden_state
    torch.testing.assert_close(one, normalize(hidden.mean(dim=1), dim=-1))
    assert tokenizer.unk_token_id not in tokenizer("flabbergasted! grossed-out (appalled)?").input_ids
    assert "| student unseen ensembles |" in (tmp_path / "150" / "README.md").read_text()


def test_what_tests_is_never_learned(teacher_folder):
    teacher = Teacher(str(teacher_folder))
    general = frequent(sorted(teacher.tokenizer.get_vocab(), key=teacher.tokenizer.get_vocab().get), 4)
    assert general == ["feeling", "person", "table", "voice"]  # livid is unseen
    _, texts, targets, emotional = lessons(teacher, 32, general)
    assert targets.shape == (len(texts), 32)
    assert len(texts) - emotional == 4
    learned = " ".join(texts)
    for words in UNSEEN.values():
        assert not any(f"{word} " in learned.replace(".", " ") + " " for word in words)
    assert not set(TEMPLATES_LEARNED) & set(TEMPLATES_UNSEEN)


def test_words_for_an_emotion_lie_together_whatever_the_template(teacher_folder):
    _, texts, targets, emotional = lessons(Teacher(str(teacher_folder)), 32, [])
    assert emotional == len(texts)
    of = dict(zip(texts, targets, strict=True))
    assert (of["angry"] @ of["speech has angry emotion"]).item() == pytest.approx(1, abs=1e-5)
    assert of["angry"] @ of["fury"] > of["angry"] @ of["joy"] + 0.2


def test_the_space_turns_to_what_tells_classes_apart():
    """Two classes differ by 1 along one axis; another axis has most of the variance and says nothing."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(400) % 2
    points = torch.randn(400, 6, generator=generator) * torch.tensor([0.2, 1.5, 0.2, 0.2, 0.2, 0.2])
    points[:, 0] += classes
    placed = emotion_space(points, classes, 1)(points)[:, 0]  # normalised: a sign
    assert (placed[classes == 0].mean() - placed[classes == 1].mean()).abs() > 1.8
    plain = (points - points.mean(dim=0)) @ torch.linalg.svd(points - points.mean(dim=0))[2][0]
    assert (plain.sign()[classes == 0].mean() - plain.sign()[classes == 1].mean()).abs() < 0.5


def test_the_vocabulary_keeps_every_piece_of_an_emotion_word(teacher_folder):
    tokenizer = Teacher(str(teacher_folder)).tokenizer
    pieces = vocabulary(tokenizer, 3)
    assert set(pieces) <= set(tokenizer.get_vocab())
    assert pieces[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert "[unused0]" not in pieces
    for words in (*LEARNED.values(), *UNSEEN.values()):
        assert set(tokenizer.tokenize(" ".join(words))) <= set(pieces)


def test_the_projects_synonyms_are_learned():
    for emotion in UNSEEN:
        assert set(SYNONYMS[emotion]) <= set(LEARNED[emotion])
        assert not set(UNSEEN[emotion]) & {word for words in LEARNED.values() for word in words}


def test_without_the_teacher_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(text_tower, "TEACHER_PACKAGE", "no_such_package_here")
    with pytest.raises(InputError, match=r"zsfuse-ray\[distil\]"):
        build(TextTowerConfig(output=str(tmp_path)))
    with pytest.raises(InputError, match="--output is needed"):
        text_tower.main([])
