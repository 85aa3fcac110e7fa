"""Checkpoints in local folders: location, revision and licence."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from zsfuse_ray.errors import InputError
from zsfuse_ray.models.checkpoints import find
from zsfuse_ray.models.checkpoints.find import resolve
from zsfuse_ray.models.checkpoints.load import download


def test_local_folder(folder):
    found = resolve(str(folder))
    assert (found.path_or_id, found.is_local, found.licence) == (str(folder), True, "apache-2.0")
    assert found.config["model_type"] == "wav2vec2"
    assert len(found.revision) == 12
    assert download(found) == found


def test_revision_depends_on_content_not_location(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert resolve(str(copy)).revision == resolve(str(folder)).revision
    (copy / "README.md").unlink()
    assert resolve(str(copy)).revision == resolve(str(folder)).revision
    assert resolve(str(copy)).licence is None


@pytest.mark.parametrize("whole", [0, 10**9])
def test_revision_differs_between_trainings(folder, monkeypatch, whole):
    monkeypatch.setattr(find, "_HASHED_WHOLE", whole)
    before = resolve(str(folder)).revision
    weights = load_file(folder / "model.safetensors")
    changed = {name: value * 1.01 for name, value in weights.items()}
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    assert resolve(str(folder)).revision != before


LICENCES = [
    ("---\nlicense: mit\ntags: [a]\n---\n# Model", "mit"),
    ("---\nlicense: [mit, cc-by-4.0]\n---\n", "mit, cc-by-4.0"),
    ("---\ntags: [a]\n---\n", None),
    ("---\nlicense: mit\n", None),
    ("---\n{[\n---\n", None),
    ("no front matter", None),
    ("---\n!!python/object/apply:os.getcwd []\n---\n", None),
]


def test_model_card_gives_licence_and_data_sets(folder):
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: mine\ndatasets: [a, b]\n---\n")
    assert (resolve(str(folder)).licence, resolve(str(folder)).trained_on) == ("mine", ("a", "b"))
    (folder / "README.md").write_text("---\nlicense: other\ndatasets: a\n---\n")
    assert (resolve(str(folder)).licence, resolve(str(folder)).trained_on) == ("other", ("a",))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "models/my_specalist",
            r"no such checkpoint folder: models/my_specalist \(did you mean models/my_specialist\?\)",
        ),
        ("./my_specialist", r"\(\. exists, but contains no my_specialist\)"),
        ("models/other/deep/x", r"\(models exists, but contains no other\)"),
        ("model", r"\(did you mean models\?\)"),
    ],
)
def test_missing_folder_error_suggests_similar_names_without_the_hub(tmp_path, monkeypatch, name, message):
    (tmp_path / "models" / "my_specialist").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        resolve(name)


@pytest.mark.parametrize(
    ("readme", "licence"),
    LICENCES,
)
def test_licence(folder, readme, licence):
    (folder / "README.md").write_text(readme)
    assert resolve(str(folder)).licence == licence


def test_invalid_folders_are_errors(folder, tmp_path):
    with pytest.raises(InputError, match=r"contains no config\.json; expected a folder"):
        resolve(str(tmp_path))
    for missing in (tmp_path / "absent", folder / "config.json", "./absent", "~/absent/absent"):
        with pytest.raises(InputError, match="no such checkpoint folder"):
            resolve(str(missing))
    for content in ('{"maxlen": 12*16000}', "[]"):
        (folder / "config.json").write_text(content)
        with pytest.raises(InputError, match=r"config\.json is not"):
            resolve(str(folder))


@pytest.mark.parametrize(
    ("content", "maxlen"),
    [
        ('{"model_type": "ser", "maxlen": 12*16000, "a": "3*4"}', 192000),
        ('{"model_type": "ser", "maxlen": 2 * 3 *4, "a": "3*4"}', 24),
        ('{"model_type": "ser", "maxlen": 7, "a": "3*4"}', 7),
    ],
)
def test_product_in_the_odyssey_config_is_evaluated(folder, content, maxlen):
    (folder / "config.json").write_text(content)
    assert resolve(str(folder)).config == {"model_type": "ser", "maxlen": maxlen, "a": "3*4"}


@pytest.mark.parametrize("value", ["1.5*2", "2*1.5", "12*", "2**9", "2*x", "2*(3)", "2*3*4*5*6", "len(x)*2"])
def test_other_arithmetic_in_config_is_an_error(folder, value):
    (folder / "config.json").write_text(f'{{"model_type": "ser", "maxlen": {value}}}')
    with pytest.raises(InputError, match=r"config\.json is not JSON"):
        resolve(str(folder))


def test_local_file_of_weights(tmp_path):
    file = tmp_path / "best.pt"
    torch.save({"x": torch.ones(2)}, file)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    by_file, by_folder = resolve(str(file)), resolve(str(tmp_path))
    assert by_file.weights == by_folder.weights == file
    assert (by_file.licence, by_file.is_local, by_file.config) == ("mit", True, {})
    assert by_file.revision == by_folder.revision
    assert len(by_file.revision or "") == 12
    assert download(by_file) == by_file
    torch.save({"x": torch.zeros(2)}, file)
    assert resolve(str(file)).revision != by_file.revision
    torch.save({"x": torch.zeros(2)}, tmp_path / "last.pt")
    with pytest.raises(InputError, match=r"contains no config\.json; expected .* with a \.pt or \.pth file"):
        resolve(str(tmp_path))
    assert resolve(str(file)).weights == file
    with pytest.raises(InputError, match="no such checkpoint folder"):
        resolve(str(tmp_path / "absent.pt"))


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 1234567\n"


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "tokenizer.json", "vocab.model"])
@pytest.mark.parametrize(
    ("content", "kind"),
    [(POINTER, "a Git LFS pointer"), ("/annex/objects/SHA256E-s1--4d7.pt\n", "a git-annex pointer")],
)
def test_a_pointer_of_git_is_called_that(folder, name, content, kind):
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=f"{folder}: {name} is {kind}, not the file itself; .*git lfs pull"):
        resolve(str(folder))


@pytest.mark.parametrize("name", ["best.pt", "best.ckpt", "best.safetensors"])
def test_a_single_file_that_is_a_pointer_is_called_that(tmp_path, name):
    (tmp_path / name).write_text(POINTER)
    for place in (tmp_path / name, tmp_path):
        with pytest.raises(InputError, match=f"{name} is a Git LFS pointer"):
            resolve(str(place))


def test_a_broken_link_is_named(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(".git/annex/objects/absent")
    with pytest.raises(InputError, match=r"model\.safetensors is a link to content that is missing"):
        resolve(str(folder))
