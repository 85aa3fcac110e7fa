"""Fetch and load a checkpoint that was found, without running code of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from transformers.utils import logging

from zsfuse_ray.errors import InputError
from zsfuse_ray.models.checkpoints.find import Checkpoint, card_of, has_weights
from zsfuse_ray.models.checkpoints.hub import fetch_file, hub_file, snapshot


def download(source: Checkpoint) -> Checkpoint:
    """Return the checkpoint with all its files in place; nothing is fetched where they already are."""
    if source.is_local or source.file or (source.config and has_weights(source.folder)):
        return source
    name = source.path_or_id
    if place := hub_file(name):
        path = fetch_file(name, *place, source.revision)
        return replace(source, folder=path.parent, file=path)
    folder = snapshot(name, source.revision)
    licence, trained_on = card_of(folder)
    return replace(source, folder=folder, licence=licence, trained_on=trained_on)


def load_part(part: Any, source: Checkpoint, **options: Any) -> Any:
    """Return part.from_pretrained of a downloaded checkpoint: no network, no code of the checkpoint's own."""
    with quiet():
        try:
            return part.from_pretrained(
                source.folder, local_files_only=True, trust_remote_code=False, **options
            )
        except Exception as error:  # files from strangers: whatever they make the loader raise
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise InputError(
                f"{source.path_or_id}: {part.__name__} cannot load this checkpoint: {reason}"
            ) from error


def load_model(part: Any, source: Checkpoint, device: str | torch.device) -> Any:
    """Return a model in float32 on the device, ready for inference.

    Raises InputError where weights are missing: transformers would fill them with random numbers.
    """
    model, report = load_part(part, source, dtype=torch.float32, output_loading_info=True)
    parameters = {name for name, _ in model.named_parameters()}
    # masked_spec_embed is for training, and old checkpoints lack it.
    missing = sorted(n for n in parameters & set(report["missing_keys"]) if "masked_spec_embed" not in n)
    if missing:
        raise InputError(
            f"{source.path_or_id}: the weights lack {missing[0]} ({len(missing)} missing in all), "
            f"so it is no {type(model).__name__}"
        )
    return model.eval().requires_grad_(False).to(device)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' notes and progress bars off the screen while a model loads."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
