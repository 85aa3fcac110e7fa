import logging
from pathlib import Path

import pyarrow as pa
import pytest

from tests.corpora.fake_corpora import columns, refusal, touch, write
from zsfuse_ray.corpora.load import load
from zsfuse_ray.corpora.readers import read
from zsfuse_ray.corpora.registry import CORPORA
from zsfuse_ray.experiments.protocol import protocol
from zsfuse_ray.method.labels import canonical


def iemocap(root: Path) -> str:
    wav = "sentences/wav/Ses01F_impro01/Ses01F_impro01"
    touch(
        root / "Session1",
        *(f"{wav}_{turn}.wav" for turn in ("F000", "F001", "M000", "M001", "F002")),
        "sentences/ForcedAlignment/Ses01F_impro01/Ses01F_impro01_F003.wdseg",
        "sentences/MOCAP_hand/Ses01F_impro01/Ses01F_impro01_F003.bin",
        "dialog/wav/Ses01F_impro01.wav",
    )
    touch(root / "Session5", "sentences/wav/Ses05M_script01_1b/Ses05M_script01_1b_MXX0.wav")
    head = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
    write(
        root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt",
        head,
        "",
        *(
            f"[{i}.2901 - {i}.9357]\tSes01F_impro01_{turn}\t{label}\t[2.5, 2.5, 2.5]\nC-E2:\tNeutral;\t()\n"
            for i, (turn, label) in enumerate(
                [("F000", "neu"), ("F001", "xxx"), ("M000", "exc"), ("M001", "fru"), ("F002", "hap")]
            )
        ),
        "[9.0000 - 9.5000]\tSes01F_impro01_F003\tsad\t[2.0, 2.0, 2.0]",  # its audio is missing
    )
    # Files of single annotators are one folder deeper and must be ignored.
    write(
        root / "Session1/dialog/EmoEvaluation/Categorical/Ses01F_impro01_e1_cat.txt",
        "[6.2901 - 8.2357]\tSes01F_impro01_F001\tang\t[2.5000, 2.5000, 2.5000]",
    )
    write(
        root / "Session5/dialog/EmoEvaluation/Ses05M_script01_1b.txt",
        head,
        "[1.0000 - 2.0000]\tSes05M_script01_1b_MXX0\tang\t[2.0, 2.0, 2.0]",
    )
    write(
        root / "Session1/dialog/transcriptions/Ses01F_impro01.txt",
        "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me: now.",
        "M: nothing",
    )
    return str(root)


def test_iemocap(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        table = read(f"iemocap:{iemocap(tmp_path)}")
    assert columns(table, "emotion", "speaker", "gender", "fold", "sentence", "style") == {
        "Ses01F_impro01_F000": ("neutral", "Ses01F", "female", 1, "Excuse me: now.", "improvised"),
        "Ses01F_impro01_M000": ("happy", "Ses01M", "male", 1, None, "improvised"),
        "Ses01F_impro01_F002": ("happy", "Ses01F", "female", 1, None, "improvised"),
        "Ses05M_script01_1b_MXX0": ("angry", "Ses05M", "male", 5, None, "scripted"),
    }
    assert all("/sentences/wav/" in uri for uri in table["uri"].to_pylist())
    assert "1 of 5 labelled clips have no audio" in caplog.text


def test_iemocap_without_audio(tmp_path: Path) -> None:
    line = "[1.0000 - 2.0000]\tSes05M_impro01_M000\tang\t[2.0, 2.0, 2.0]"
    write(tmp_path / "Session5/dialog/EmoEvaluation/Ses05M_impro01.txt", line)
    message = refusal(read, f"iemocap:{tmp_path}")
    assert "none of 1 labelled clips has audio (looked for Ses05M_impro01_M000)" in message


def test_msp_podcast(tmp_path: Path) -> None:
    files = [f"MSP-PODCAST_0001_000{i}.wav" for i in range(1, 7)]
    touch(tmp_path / "Audios", *files[:5])
    write(
        tmp_path / "Labels/labels_consensus.csv",
        "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set",
        f"{files[0]},N,4.8,4.2,5.0,127,Male,Train",
        f"{files[1]},U,4.8,4.2,5.0,128,Female,Development",
        f"{files[2]},X,4.8,4.2,5.0,128,Female,Test1",
        f"{files[3]},O,4.8,4.2,5.0,129,Female,Test1",
        f"{files[4]},C,4.8,4.2,5.0,Unknown,Unknown,Test2",
        f"{files[5]},A,4.8,4.2,5.0,130,Male,Test1",
    )
    table = read(f"msp_podcast:{tmp_path}")
    assert columns(table, "emotion", "speaker", "gender", "split", "split_set") == {
        "MSP-PODCAST_0001_0001": ("neutral", "127", "male", "train", "Train"),
        "MSP-PODCAST_0001_0002": ("surprised", "128", "female", "dev", "Development"),
        "MSP-PODCAST_0001_0005": ("contempt", None, None, "test", "Test2"),
    }


def test_msp_podcast_soft_labels_and_test_sets(tmp_path: Path) -> None:
    files = [f"MSP-PODCAST_0001_000{i}.wav" for i in range(1, 6)]
    touch(tmp_path / "Audios", *files)
    sets = ("Train", "Development", "Test1", "Test2", "Test3")
    rows = [f"{file},A,{i},Male,{name}" for i, (file, name) in enumerate(zip(files, sets, strict=True))]
    write(tmp_path / "Labels/labels_consensus.csv", "FileName,EmoClass,SpkrID,Gender,Split_Set", *rows)
    votes = [(0, "Angry"), (0, "Angry"), (0, "Surprise"), (0, "Other-tired"), (1, "Neutral"), (2, "Other")]
    write(
        tmp_path / "Labels/labels_detailed.csv",
        "FileName,WorkerID,EmoClass_Major,EmoClass_Second,EmoAct",
        *(f'{files[i]},WORKER{n},{vote},"{vote},Concerned",4' for n, (i, vote) in enumerate(votes)),
    )
    table = read(f"msp_podcast:{tmp_path}")
    assert columns(table, "share_angry", "share_surprised", "share_neutral", "share_contempt") == {
        "MSP-PODCAST_0001_0001": (pytest.approx(2 / 3), pytest.approx(1 / 3), 0, 0),
        "MSP-PODCAST_0001_0002": (0, 0, 1, 0),
        **{f"MSP-PODCAST_0001_000{i}": (None, None, None, None) for i in (3, 4, 5)},
    }
    assert {f"share_{canonical(c)}" for c in CORPORA["msp_podcast"].labels} == {
        name for name in table.column_names if name.startswith("share_")
    }
    happy = [{**row, "emotion": "happy"} for row in table.to_pylist()]
    plan = protocol(pa.Table.from_pylist([*table.to_pylist(), *happy]), "msp_podcast", 5, None, "split")
    assert (plan.names, plan.apart) == (("Test1", "Test2", "Test3"), True)
    assert [len(r.test) for r in plan.rounds] == [2, 2, 2]


def test_msp_podcast_without_the_expected_columns_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "labels_consensus.csv", "FileName,Emotion", "a.wav,N")
    assert "no column EmoClass among FileName, Emotion" in refusal(read, f"msp_podcast:{tmp_path}")


def meld(root: Path) -> str:
    folders = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
    for split, folder in folders.items():
        touch(root / folder, "dia0_utt0.mp4", "._dia0_utt0.mp4", "final_videos_testdia0_utt0.mp4")
        # As published: Windows-1252 quotation marks.
        row = f'1,"I\x92m {split}, really",Joey,joy,positive,0,0,8,21,"00:16:16,059","00:16:21,731"\n'
        head = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,"
        (root / f"{split}_sent_emo.csv").write_bytes((head + "StartTime,EndTime\n" + row).encode("latin-1"))
    with (root / "test_sent_emo.csv").open("a") as file:
        file.write('2,"No","A Waiter",neutral,neutral,0,1,8,21,"00:16:16,059","00:16:21,731"\n')
    touch(root / "output_repeated_splits_test", "dia0_utt1.mp4")
    return str(root)


def test_meld(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        table = load([f"meld:{meld(tmp_path)}"])
    names = ("emotion", "speaker", "gender", "sentence", "split")
    rows = sorted(zip(*(table[name].to_pylist() for name in names), strict=True), key=str)
    assert rows == [
        ("happy", "Joey", "male", "I’m dev, really", "dev"),
        ("happy", "Joey", "male", "I’m test, really", "test"),
        ("happy", "Joey", "male", "I’m train, really", "train"),
        ("neutral", "A Waiter", None, "No", "test"),
    ]
    places = {row["split"]: Path(row["uri"]).parent.name for row in table.to_pylist()}
    assert places["train"] == "train_splits"
    assert places["dev"] == "dev_splits_complete"
    assert "its own splits share 1 speakers" in caplog.text  # part of the protocol: a warning, not an error
    caplog.clear()
    own = write(tmp_path / "own.csv", "corpus,speaker,split", "meld,Joey,train", "meld,A Waiter,test")
    assert sorted(load([f"meld:{tmp_path}"], own)["split"].to_pylist()) == ["test", *["train"] * 3]
    assert not caplog.text


@pytest.mark.parametrize("name", ["iemocap", "msp_podcast", "meld"])
def test_folder_without_label_tables_is_an_error(tmp_path: Path, name: str) -> None:
    root = touch(tmp_path, "a.wav")
    assert f"{root}: contains no {name} (looked for " in refusal(read, f"{name}:{root}")
