import json
from pathlib import Path

import pytest

from tests.corpora.fake_corpora import columns, refusal, touch, write
from zsfuse_ray.corpora.readers import read

EMODB = {"03a01Wa": "anger", "08a01La": "boredem", "16b10Fb": "happy"}


def row(stem: str, emo: str, dataset: str = "emodb", folder: str = "wav") -> str:
    wav = f"downloads/{dataset}/{folder}/{stem}.wav"
    extra = {"type": "raw", "sample_rate": 16000, "num_frame": 32000.0, "task": "category", "channel": 1}
    return json.dumps(
        {"key": f"{dataset}-{stem}", "dataset": dataset, "wav": wav, "emo": emo, "length": 2.0} | extra
    )


def lists(folder: Path, dataset: str, parts: dict[str, dict[str, str]]) -> str:
    """Write an EmoBox folder of a data set; parts: from a name like "test_fold_1" to {stem: label}."""
    stems = {stem for rows in parts.values() for stem in rows}
    touch(folder / "downloads" / dataset / "wav", *(f"{stem}.wav" for stem in stems))
    for part, rows in parts.items():
        path = folder / "data" / dataset / f"fold_{part[-1]}" / f"{dataset}_{part}.jsonl"
        write(path, *(row(stem, emo, dataset) for stem, emo in rows.items()))
    return str(folder / "data" / dataset)


def test_fold_is_the_one_whose_test_part_has_the_clip(tmp_path: Path) -> None:
    parts = {}
    for fold, test in enumerate(EMODB, start=1):
        parts[f"test_fold_{fold}"] = {test: EMODB[test]}
        parts[f"train_fold_{fold}"] = {stem: emo for stem, emo in EMODB.items() if stem != test}
    root = lists(tmp_path, "emodb", parts)
    write(Path(root) / "emodb.jsonl", *(row(stem, emo) for stem, emo in EMODB.items()))
    write(
        Path(root) / "fold_1" / "emodb_test_fold1.jsonl", '{"key": "a", "label": "anger"}'
    )  # an older format
    write(Path(root) / "fold_1" / "emodb_test_fold_1.json", "the same again")
    table = read(f"emobox:{root}")
    assert columns(table, "emotion", "speaker", "gender", "fold", "split", "corpus") == {
        "03a01Wa": ("angry", "03", "male", 1, None, "emodb"),
        "08a01La": ("bored", "08", "female", 2, None, "emodb"),
        "16b10Fb": ("happy", "16", "female", 3, None, "emodb"),
    }
    assert all(Path(uri).is_file() for uri in table["uri"].to_pylist())


def test_parts_of_a_single_fold_become_splits(tmp_path: Path) -> None:
    parts = {
        "train_fold_1": {"1001_DFA_ANG_XX": "ANG"},
        "valid_fold_1": {"1002_DFA_HAP_XX": "HAP"},
        "test_fold_1": {"1003_DFA_SAD_XX": "SAD"},
    }
    table = read(f"emobox:{lists(tmp_path, 'cremad', parts)}")
    assert columns(table, "emotion", "speaker", "fold", "split", "corpus") == {
        "1001_DFA_ANG_XX": ("angry", "1001", None, "train", "crema_d"),
        "1002_DFA_HAP_XX": ("happy", "1002", None, "dev", "crema_d"),
        "1003_DFA_SAD_XX": ("sad", "1003", None, "test", "crema_d"),
    }


def test_single_list(tmp_path: Path) -> None:
    root = lists(tmp_path, "emodb", {"test_fold_2": EMODB, "train_fold_2": {"09a01Na": "Neutral"}})
    test = read(f"emobox:{root}/fold_2/emodb_test_fold_2.jsonl")
    assert set(columns(test, "fold", "split").values()) == {(2, "test")}
    train = read(f"emobox:{root}/fold_2/emodb_train_fold_2.jsonl")
    assert columns(train, "fold", "split", "emotion") == {"09a01Na": (None, "train", "neutral")}


@pytest.mark.parametrize("form", ["dict", "list"])
def test_json_list(tmp_path: Path, form: str) -> None:
    touch(tmp_path / "downloads/emodb/wav", *(f"{stem}.wav" for stem in EMODB))
    rows = [json.loads(row(stem, emo)) for stem, emo in EMODB.items()]
    content = {r.pop("key"): r for r in rows} if form == "dict" else rows
    path = write(tmp_path / "data/emodb/emodb.json", json.dumps(content))
    table = read(f"emobox:{path}")
    assert {stem: label for stem, (label,) in columns(table, "emotion").items()} == {
        "03a01Wa": "angry", "08a01La": "bored", "16b10Fb": "happy"
    }  # fmt: skip
    assert columns(read(f"emobox:{tmp_path}/data/emodb"), "emotion", "speaker") == columns(
        table, "emotion", "speaker"
    )


def test_labels_are_mapped_by_the_label_map(tmp_path: Path) -> None:
    emotions = {"a1": "01", "a2": "02", "a3": "11", "a4": "17"}
    root = lists(tmp_path, "mine", {"test_fold_1": emotions})
    names = {"01": "Boredom", "02": "Neutral", "11": "pain,groan", "17": "UnKnown"}
    write(Path(root) / "label_map.json", json.dumps(names))
    expected = {"a1": ("bored",), "a2": ("neutral",), "a3": ("pain,groan",)}
    assert columns(read(f"emobox:{root}"), "emotion") == expected
    assert columns(read(f"emobox:{root}/fold_1/mine_test_fold_1.jsonl"), "emotion") == expected


def test_iemocap_merges_excited_into_happy(tmp_path: Path) -> None:
    emotions = {"Ses01F_impro04_F000": "exc", "Ses05M_script01_1_FXX0": "neu"}
    table = read(f"emobox:{lists(tmp_path, 'iemocap', {'test_fold_1': emotions})}")
    assert columns(table, "emotion", "speaker", "gender") == {
        "Ses01F_impro04_F000": ("happy", "Ses01F", "female"),
        "Ses05M_script01_1_FXX0": ("neutral", "Ses05F", "female"),
    }


def test_msp_podcast_classes_without_emotion_are_skipped(tmp_path: Path) -> None:
    rows = {"a": "A", "b": "X", "c": "O", "d": "U"}
    table = read(f"emobox:{lists(tmp_path, 'msppodcast', {'train_fold_1': rows})}")
    assert columns(table, "emotion", "corpus") == {
        "a": ("angry", "msp_podcast"),
        "d": ("surprised", "msp_podcast"),
    }


def test_invalid_lists_are_errors(tmp_path: Path) -> None:
    message = refusal(read, f"emobox:{touch(tmp_path / 'none', 'label_map.json', 'a.wav')}")
    assert "contains no EmoBox list (looked for <dataset>_{train,valid,test}_fold_<n>.jsonl" in message
    path = write(tmp_path / "silent" / "emodb.jsonl", row("03a01Wa", "anger"))
    assert "no audio downloads/emodb/wav/03a01Wa.wav in this folder or in any above it" in refusal(
        read, f"emobox:{path}"
    )
    for number, text in enumerate(["{nonsense", "[1]", '{"key": "a"}', '["a"]', '{"key": "a", "wav": "b"}']):
        path = write(tmp_path / f"bad{number}" / "emodb.jsonl", text)
        message = refusal(read, f"emobox:{path}")
        assert "not an EmoBox list" in message or "a has no" in message
    touch(tmp_path / "two", "a.jsonl", "b.jsonl")
    assert "lists of a, b; give the folder of one data set" in refusal(read, f"emobox:{tmp_path}/two")
