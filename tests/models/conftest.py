"""Folders of tiny checkpoints with random weights."""

from pathlib import Path

import pytest
import torch
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

from tests.models.tiny_models import FAMILIES
from zsfuse_ray.models.untrained import untrained_alm

torch.set_num_threads(1)  # models this small are slower with more threads


@pytest.fixture(scope="session", params=FAMILIES)
def family_folder(request, tmp_path_factory) -> Path:
    """Folder of a tiny classifier, named by its family."""
    folder = tmp_path_factory.mktemp("families") / request.param
    torch.manual_seed(0)
    model, extractor = FAMILIES[request.param]()
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def alm_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alm")
    untrained_alm(folder)
    return folder


@pytest.fixture(scope="session")
def fused_folder(alm_folder, tmp_path_factory) -> Path:
    """The same CLAP with the fusion of long inputs, like laion/clap-htsat-fused."""
    folder = tmp_path_factory.mktemp("fused")
    config = ClapConfig.from_pretrained(alm_folder)
    config.audio_config.enable_fusion = True
    config.audio_config.fusion_type = "aff_2d"
    torch.manual_seed(0)
    ClapModel(config).save_pretrained(folder)
    ClapFeatureExtractor(truncation="fusion", frequency_min=50).save_pretrained(folder)
    for file in alm_folder.glob("tokenizer*"):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder
