from pathlib import Path

import pytest

from tests.corpora.fake_corpora import by_stem, columns, refusal, touch, write
from zsfuse_ray.corpora.filenames import parse_crema_d, parse_emodb, parse_nemo, parse_ravdess, parse_tess
from zsfuse_ray.corpora.readers import read


def test_ravdess_in_folders_of_actors(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        "Actor_01/03-01-06-02-01-02-01.wav",
        "Actor_12/03-01-02-01-02-01-12.wav",
        "Actor_12/03-02-02-01-02-01-12.wav",  # a song
        "Actor_12/02-01-02-01-02-01-12.mp4",  # video without sound
        "Actor_12/01-01-02-01-02-01-12.mp4",  # both
        "nested/Actor_12/03-01-02-01-02-01-12.wav",  # a copy, present in some downloads
        "Actor_12/notes.txt",
        "Actor_12/03-01-09-01-02-01-12.wav",
    )
    table = read(f"ravdess:{root}")
    names = ("emotion", "speaker", "gender", "sentence", "intensity", "repetition", "corpus")
    kids, dogs = "Kids are talking by the door", "Dogs are sitting by the door"
    assert columns(table, *names) == {
        "03-01-06-02-01-02-01": ("fearful", "Actor_01", "male", kids, "strong", 2, "ravdess"),
        "03-01-02-01-02-01-12": ("calm", "Actor_12", "female", dogs, "normal", 1, "ravdess"),
    }
    assert len(table) == 2


def test_ravdess_in_one_folder_as_video(tmp_path: Path) -> None:
    root = touch(tmp_path, "01-01-05-01-01-01-03.mp4", "01-01-08-01-01-01-03.mp4")
    assert columns(read(f"ravdess:{root}"), "emotion") == {
        "01-01-05-01-01-01-03": ("angry",),
        "01-01-08-01-01-01-03": ("surprised",),
    }


@pytest.mark.parametrize(
    ("letter", "emotion"),
    [*zip("WLEAFTN", ("angry", "bored", "disgust", "fearful", "happy", "sad", "neutral"), strict=True)],
)
def test_emodb_parses_german_initials(tmp_path: Path, letter: str, emotion: str) -> None:
    root = touch(tmp_path, f"wav/16b10{letter}b.wav", "erkennung.txt", "silb/16b10Xb.silb")
    assert columns(read(f"EmoDB:{root}"), "emotion", "speaker", "gender", "sentence") == {
        f"16b10{letter}b": (emotion, "16", "female", "b10")
    }


def test_crema_d(tmp_path: Path) -> None:
    files = [f"Audio{kind.upper()}/1001_DFA_ANG_XX.{kind}" for kind in ("mp3", "wav")]
    root = touch(tmp_path, *files, "AudioWAV/1002_IEO_FEA_HI.wav", "AudioWAV/1040_ITH_SAD_X.wav", "x_ANG.wav")
    names = ("emotion", "speaker", "gender", "sentence", "intensity")
    table = read(f"crema-d:{root}")
    assert columns(table, *names) == {
        "1001_DFA_ANG_XX": ("angry", "1001", None, "Don't forget a jacket", None),
        "1002_IEO_FEA_HI": ("fearful", "1002", None, "It's eleven o'clock", "high"),
        "1040_ITH_SAD_X": ("sad", "1040", None, "I think I have a doctor's appointment", None),
    }
    assert by_stem(table)["1001_DFA_ANG_XX"]["uri"].endswith(".wav")  # the lossless format is preferred
    write(tmp_path / "VideoDemographics.csv", '"ActorID","Age","Sex"', '1001,51,"Male"', '1002,21,"Female"')
    assert read(f"crema_d:{root}")["gender"].to_pylist() == ["male", "female", None]


def test_nemo_as_published(tmp_path: Path) -> None:
    root = touch(tmp_path, "samples/SM0_happiness_12.wav", "samples/TP0_surprised_1.wav")
    assert columns(read(f"nemo:{root}"), "emotion", "speaker", "gender", "sentence") == {
        "SM0_happiness_12": ("happy", "SM0", None, "12"),
        "TP0_surprised_1": ("surprised", "TP0", None, "1"),
    }
    head = "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage"
    row = "SM0_happiness_12.wav\thappiness\tWiem, że to ładne.\twiem że to ładne\tSM0\tmale\t24"
    write(tmp_path / "data.tsv", head, row)
    found = columns(read(f"nemo:{root}"), "gender", "sentence", "age")
    assert found == {
        "SM0_happiness_12": ("male", "Wiem, że to ładne.", 24),
        "TP0_surprised_1": (None, "1", None),
    }


def test_tess(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        "OAF_Fear/OAF_back_fear.wav",
        "OAF_neutral/OA_bite_neutral.wav",
        "YAF_pleasant_surprised/YAF_dog_ps.wav",
        "TESS/OAF_Fear/OAF_back_fear.wav",
    )
    table = read(f"tess:{root}")
    assert len(table) == 3
    assert columns(table, "emotion", "speaker", "gender", "sentence") == {
        "OAF_back_fear": ("fearful", "OAF", "female", "Say the word back"),
        "OA_bite_neutral": ("neutral", "OAF", "female", "Say the word bite"),
        "YAF_dog_ps": ("surprised", "YAF", "female", "Say the word dog"),
    }


@pytest.mark.parametrize("parse", [parse_crema_d, parse_emodb, parse_nemo, parse_ravdess, parse_tess])
@pytest.mark.parametrize("stem", ["", "a", "03-01-00-01-01-01-01", "07a01Fa", "1001_DFA_JOY_XX", "OAF_angry"])
def test_other_file_names_are_not_clips(parse, stem: str) -> None:
    assert parse(stem) is None


def test_folder_without_the_corpus_is_an_error(tmp_path: Path) -> None:
    root = touch(tmp_path / "some", "a.wav", "metadata.csv")
    message = refusal(read, f"emodb:{root}")
    assert message == (
        f"{root}: contains no emodb (looked for audio named like 03a01Fa.wav; "
        f"it has a metadata.csv: try metadata:{root})"
    )
    assert "no such file or folder" in refusal(read, f"emodb:{tmp_path}/nowhere")
    (tmp_path / "empty").mkdir()
    assert "empty" in refusal(read, f"tess:{tmp_path}/empty")
    assert "is a file; give the folder" in refusal(read, f"tess:{root}/a.wav")


@pytest.mark.parametrize(("name", "folder", "number"), [
    ("ravdess", "ravdess", 1440), ("emodb", "emodb", 535), ("nemo", "nemo", 4481),
    ("crema_d", "crema_d_samples", 11),
])  # fmt: skip
def test_real_corpora_agree_with_their_metadata(shared: Path, name: str, folder: str, number: int) -> None:
    """CREMA-D's six demonstration clips are excluded: their actor is unknown."""
    root = shared / "corpora" / folder
    table, metadata = read(f"{name}:{root}"), read(f"metadata:{root}")
    assert len(table) == number
    names = ("emotion", "speaker") if name == "crema_d" else ("emotion", "speaker", "gender", "sentence")
    expected = columns(metadata, *names)
    assert len(expected) == len(metadata)
    assert columns(table, *names) == {stem: expected[stem] for stem in columns(table)}
    assert name == "crema_d" or len(metadata) == number
    assert all(Path(uri).is_file() for uri in table["uri"].to_pylist())
