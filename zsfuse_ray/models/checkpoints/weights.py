"""Checkpoints that are a single file of weights (.pt, .pth), not a folder in transformers' format.

`resolve` locates them like any other; here they are read, loaded into a network, and given a tokenizer.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoTokenizer

from zsfuse_ray.errors import InputError
from zsfuse_ray.models.checkpoints.find import Checkpoint
from zsfuse_ray.models.checkpoints.hub import fetch_tokenizer
from zsfuse_ray.models.checkpoints.load import check_finite, load_part

# The types of a pickled NumPy scalar, safe to load: some checkpoints store their epoch or best score as one.
_SCALAR = np.float64(0).__reduce__()[0]
_NUMBERS: list[Any] = [
    *(np.dtype, (_SCALAR, "numpy.core.multiarray.scalar"), (_SCALAR, "numpy._core.multiarray.scalar")),
    *{type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)},
]
# Names of the two parts of a normalised weight in PyTorch before 2.1 → current names.
_RENAMED = {
    ".weight_g": ".parametrizations.weight.original0",
    ".weight_v": ".parametrizations.weight.original1",
}
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt")


def read_weights(source: Checkpoint, keys: Iterable[str] = (), prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors of a checkpoint's file by name, on the CPU, without running its code.

    Names are PyTorch's current ones. keys: dictionaries inside the file that may contain the weights; the
    first one present is used (else the file's top level). prefix: removed from names that begin with it
    ("module." of data-parallel training is always removed). Raises InputError for a file that is truncated or
    contains no tensors there.
    """
    file, name = source.weights, source.path_or_id
    try:
        if file.suffix == ".safetensors":
            content: Any = load_file(file)
        else:
            with torch.serialization.safe_globals(_NUMBERS):
                # mapped: an optimizer's state, twice the weights, is never read
                content = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zipfile(file))
    except Exception as error:  # untrusted files: the loader may raise anything
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise InputError(f"{name}: {file.name} cannot be read as weights: {reason}") from error
    for key in keys:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{name}: {file.name} contains no named weights (a state_dict)")
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    before = re.compile(rf"^(module\.)?({re.escape(prefix)})?")
    return {_current_name(before.sub("", key)): value for key, value in tensors.items()}


def _current_name(key: str) -> str:
    stem, dot, last = key.rpartition(".")
    return stem + _RENAMED.get(dot + last, dot + last)


def without_adapters(weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the weights with low-rank adapters (of loralib's `Linear`) merged into the adapted weights.

    The scale is alpha / rank, with alpha 1. Raises InputError for an adapter without a matching weight.
    """
    merged = {key: value for key, value in weights.items() if not key.endswith((".lora_A", ".lora_B"))}
    for key, down in weights.items():
        stem, _, last = key.rpartition(".")
        if last != "lora_A":
            continue
        up, adapted = weights.get(f"{stem}.lora_B"), merged.get(f"{stem}.weight")
        if up is None or adapted is None or {up.ndim, down.ndim} != {2} or len(down) != up.shape[1]:
            raise InputError(f"{name}: {key} adapts no weight of the checkpoint")
        change = up.float() @ down.float() / len(down)
        if change.shape != adapted.shape:
            raise InputError(
                f"{name}: {key} does not match the weight it adapts, of shape {list(adapted.shape)}"
            )
        merged[f"{stem}.weight"] = adapted.float() + change
    return merged


def fill(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    name: str,
    family: str,
    unused: Iterable[str] = (),
    remark: str = "",
) -> Any:
    """Load weights into a network, strictly; returns it in float32, ready for inference.

    A network on the meta device takes the tensors as they are. unused: regular expressions of names that are
    ignored. Raises InputError if a weight is missing, unexpected, of another shape, or not finite; `remark`
    follows the names or shape.
    """
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    ignored = [re.compile(pattern) for pattern in unused]
    given = {key: value for key, value in weights.items() if not any(p.fullmatch(key) for p in ignored)}
    problem = f"{name}: not a valid {family} checkpoint"
    names = {"missing": shapes.keys() - given.keys(), "unexpected": given.keys() - shapes.keys()}
    if differences := [
        f"{how} {min(keys)} ({len(keys)} {how} in total)" for how, keys in names.items() if keys
    ]:
        raise InputError(f"{problem}: {', '.join(differences)}{remark}")
    for key, shape in shapes.items():
        if given[key].shape != shape:
            found = f"{key} has shape {list(given[key].shape)}, expected {list(shape)}"
            raise InputError(f"{problem}: {found}{remark}")
    network.load_state_dict(given, assign=any(weight.is_meta for weight in network.parameters()))
    check_finite(network, name)
    return network.float().eval().requires_grad_(False)


def tokenizer_of(source: Checkpoint, usual: str) -> Any:
    """Return the tokenizer from files beside the weights, else that of the hub model `usual`.

    Raises InputError, with the alternative, if the hub cannot be reached.
    """
    folder, name = source.folder, str(source.folder)
    if not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        folder, name = _fetched(source, usual), usual
    return load_part(AutoTokenizer, Checkpoint(name, None, None, True, folder, {}))


def _fetched(source: Checkpoint, usual: str) -> Path:
    try:
        return fetch_tokenizer(usual)
    except InputError as error:
        raise InputError(
            f"{source.path_or_id} needs the tokenizer of {usual}: {error}; or put the tokenizer's files "
            f"(tokenizer.json, tokenizer_config.json) into the folder of {source.weights.name}"
        ) from None
