"""Untrusted files of weights in the formats found in practice."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from zsfuse_ray.errors import InputError
from zsfuse_ray.models.checkpoints.find import resolve
from zsfuse_ray.models.checkpoints.weights import fill, read_weights, tokenizer_of
from zsfuse_ray.models.untrained import byte_tokenizer

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.tensor([0.5, -0.5])}


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)


def written(folder: Path, content: object, name: str = "weights.pt", **options) -> Path:
    torch.save(content, folder / name, **options)
    return folder / name


def read(file: Path, *args) -> dict[str, torch.Tensor]:
    return read_weights(resolve(str(file)), *args)


def same(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor] = STATE) -> bool:
    return got.keys() == expected.keys() and all(torch.equal(got[key], expected[key]) for key in got)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-torch-1.6"])
@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.pth.tar", "a.ckpt"])
def test_plain_state_dict(tmp_path, name, zipped):
    assert same(read(written(tmp_path, STATE, name, _use_new_zipfile_serialization=zipped)))


def test_safetensors(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors")
    assert same(read(tmp_path / "a.safetensors"))


def test_first_present_key_gives_the_weights(tmp_path):
    other = {"x": torch.ones(1)}
    content = {"epoch": 3, "model": STATE, "ema": other, "optimizer": {"state": {0: other}}}
    file = written(tmp_path, content)
    assert same(read(file, ("state_dict", "model", "ema")))
    assert same(read(file, ("ema", "model")), other)
    with pytest.raises(InputError, match=r"weights\.pt contains no named weights"):
        read(file, ("state_dict",))


def test_prefixes_are_removed_only_at_the_start_of_names(tmp_path):
    file = written(
        tmp_path, {"module.net.layer.weight": STATE["layer.weight"], "layer.bias": STATE["layer.bias"]}
    )
    assert same(read(file, (), "net."))
    inside = {"a.module.net.x": torch.ones(1), "netx": torch.ones(1)}
    assert same(read(written(tmp_path, inside), (), "net."), inside)


@pytest.mark.parametrize("module", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_numpy_scalars_beside_the_weights_are_accepted(tmp_path, module):
    numbers = [np.float64(0.5), np.float32(0.5), np.int64(3), np.int32(3), np.bool_(True)]
    file = written(tmp_path, {"best": numbers, "state_dict": STATE}, _use_new_zipfile_serialization=False)
    # as written by NumPy 1 and by NumPy 2
    for written_as in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
        file.write_bytes(file.read_bytes().replace(written_as + b"\nscalar", module + b"\nscalar"))
    assert file.read_bytes().count(module + b"\nscalar") == 1  # memoised in the pickle
    assert same(read(file, ("state_dict",)))


class Crash:
    def __init__(self, evidence: Path):
        self.evidence = evidence

    def __reduce__(self):
        return Path.touch, (self.evidence,)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_not_run(tmp_path, zipped):
    evidence = tmp_path / "ran"
    file = written(
        tmp_path, {"state_dict": STATE, "x": Crash(evidence)}, _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(InputError, match=r"weights\.pt cannot be read as weights") as error:
        read(file, ("state_dict",))
    file.write_bytes(pickle.dumps(Crash(evidence)))
    with pytest.raises(InputError, match=r"weights\.pt cannot be read as weights"):
        read(file)
    assert not evidence.exists()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_truncated_file_is_a_one_line_error(tmp_path, name, kept):
    file = tmp_path / name
    big = {"x": torch.randn(100, 100)}
    save_file(big, file) if name.endswith("safetensors") else torch.save(big, file)
    size = file.stat().st_size
    whole = file.read_bytes()
    file.write_bytes(whole[: int(size * kept) if isinstance(kept, float) else kept])
    with pytest.raises(InputError, match=f"{name} cannot be read as weights: .") as error:
        read(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {}, torch.ones(3), {"state_dict": {"a": "b"}}])
def test_file_without_named_weights_is_an_error(tmp_path, content):
    with pytest.raises(InputError, match=r"weights\.pt contains no named weights \(a state_dict\)"):
        read(written(tmp_path, content), ("state_dict",))


def test_fill_loads_all_weights_in_float32():
    half = {key: value.half() for key, value in STATE.items()}
    network = fill(Small().half(), half, "x", "Small")
    assert same(network.state_dict())
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}
    assert not network.training
    assert not any(value.requires_grad for value in network.parameters())


def test_fill_ignores_only_unused_names():
    given = {**STATE, "head.weight": torch.ones(1), "head.bias": torch.ones(1)}
    assert same(fill(Small(), given, "x", "Small", [r"head\.\w+"]).state_dict())
    with pytest.raises(
        InputError,
        match=r"x: not a valid Small checkpoint: unexpected head\.weight \(1 unexpected in total\)",
    ):
        fill(Small(), given, "x", "Small", [r"head\.b.*"])
    with pytest.raises(InputError, match=r"unexpected head\.bias \(2 unexpected"):
        fill(Small(), given, "x", "Small", ["head"])  # the pattern must match the whole name


def test_fill_mismatches_are_one_line_errors():
    with pytest.raises(
        InputError, match=r"x: not a valid Small checkpoint: missing layer\.bias \(1 missing in total\)"
    ):
        fill(Small(), {"layer.weight": STATE["layer.weight"]}, "x", "Small")
    with pytest.raises(InputError, match=r"layer\.weight has shape \[3, 2\], expected \[2, 3\]"):
        fill(Small(), {**STATE, "layer.weight": STATE["layer.weight"].T}, "x", "Small")
    with pytest.raises(InputError, match=r"layer\.bias has shape \[\], expected \[2\]"):  # no broadcasting
        fill(Small(), {**STATE, "layer.bias": torch.tensor(1.0)}, "x", "Small")


def test_local_tokenizer_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "zsfuse_ray.models.checkpoints.weights.fetch_tokenizer", None
    )  # no request to the hub
    byte_tokenizer().save_pretrained(tmp_path)
    found = resolve(str(written(tmp_path, STATE)))
    assert tokenizer_of(found, "roberta-base")("ab").input_ids == byte_tokenizer()("ab").input_ids


def test_broken_local_tokenizer_is_an_error(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match=f"{tmp_path}: AutoTokenizer cannot load") as error:
        tokenizer_of(resolve(str(written(tmp_path, STATE))), "roberta-base")
    assert "\n" not in str(error.value)
