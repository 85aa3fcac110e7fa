"""Loading runs no code of a checkpoint and prints nothing."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from zsfuse_ray.errors import InputError
from zsfuse_ray.models.families.clap import Clap
from zsfuse_ray.models.families.classifier import Classifier
from zsfuse_ray.models.untrained import untrained_specialist


class Crash:
    def __init__(self, evidence: Path):
        self.evidence = evidence

    def __reduce__(self):
        return Path.touch, (self.evidence,)


def test_pickled_code_in_weights_is_not_run(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    evidence = tmp_path / "ran"
    torch.save({"classifier.weight": Crash(evidence)}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot load"):
        Classifier(str(folder))
    assert not evidence.exists()
    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump({"classifier.weight": Crash(evidence)}, file)
    with pytest.raises(InputError, match="cannot load"):
        Classifier(str(folder))
    assert not evidence.exists()


def test_plain_bin_weights_load(folder):
    expected = Classifier(str(folder)).classify([torch.ones(16000)])[0]
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert torch.equal(Classifier(str(folder)).classify([torch.ones(16000)])[0], expected)


def test_remote_code_of_a_checkpoint_is_not_run(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForAudioClassification": "evil.Evil", "AutoConfig": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    Classifier(str(folder))
    assert not (tmp_path / "ran").exists()


def test_writing_and_loading_print_nothing(folder, alm_folder, tmp_path, capfd, caplog):
    untrained_specialist(tmp_path / "another")
    Classifier(str(folder))
    Clap(str(alm_folder)).embed_text(["x" * 3000])
    out, err = capfd.readouterr()
    assert (out, err, caplog.records) == ("", "", [])
