"""Download and load a located checkpoint without running its code."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers.utils import logging

from zsfuse_ray.errors import InputError
from zsfuse_ray.models.checkpoints.find import Checkpoint, card_of, has_weights
from zsfuse_ray.models.checkpoints.hub import fetch_file, hub_file, incomplete, is_complete, snapshot


def download(source: Checkpoint) -> Checkpoint:
    """Return the checkpoint with all its files present; downloads only what is missing."""
    name = source.path_or_id
    if source.is_local or source.file:
        return source
    is_usable = bool(source.config) and has_weights(source.folder)
    if is_usable and is_complete(name, source.folder):
        return source
    if place := hub_file(name):
        path = fetch_file(name, *place, source.revision)
        return replace(source, folder=path.parent, file=path)
    try:
        folder = snapshot(name, source.revision)
    except InputError as error:
        if not is_usable:
            raise
        folder = incomplete(name, source.folder, error)
    licence, trained_on = card_of(folder)
    return replace(source, folder=folder, licence=licence, trained_on=trained_on)


def load_part(part: Any, source: Checkpoint, **options: Any) -> Any:
    """Return part.from_pretrained of a downloaded checkpoint, without network or remote code."""
    with quiet():
        try:
            return part.from_pretrained(
                source.folder, local_files_only=True, trust_remote_code=False, **options
            )
        except Exception as error:  # untrusted files: the loader may raise anything
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise InputError(
                f"{source.path_or_id}: {part.__name__} cannot load this checkpoint: {reason}"
            ) from error


def load_model(part: Any, source: Checkpoint, device: str | torch.device) -> Any:
    """Return a model in float32 on the device, ready for inference.

    Raises InputError if weights are missing (transformers would initialise them randomly) or not finite.
    """
    model, report = load_part(part, source, dtype=torch.float32, output_loading_info=True)
    parameters = {name for name, _ in model.named_parameters()}
    # masked_spec_embed is used only in training, and missing from old checkpoints.
    missing = sorted(n for n in parameters & set(report["missing_keys"]) if "masked_spec_embed" not in n)
    if missing:
        raise InputError(
            f"{source.path_or_id}: not a valid {type(model).__name__} checkpoint: "
            f"missing {missing[0]} ({len(missing)} missing in total)"
        )
    check_finite(model, source.path_or_id)
    return model.eval().requires_grad_(False).to(device)


def check_finite(network: nn.Module, name: str) -> None:
    """Raise InputError if a weight is NaN or infinite: every output would be NaN. Masks may be infinite."""
    for key, value in network.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all() and "mask" not in key:
            raise InputError(
                f"{name}: {key} contains values that are not finite; its training diverged or the file is "
                "damaged: use another checkpoint"
            )


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress transformers' messages and progress bars while a model loads."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
