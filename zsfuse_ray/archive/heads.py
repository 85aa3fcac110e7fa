"""Heads fitted on a table (``train --from-table``): read their folders and describe a specialist with one."""

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.numpy
from pyarrow import fs as pafs
from safetensors import SafetensorError

from zsfuse_ray.archive.wanted import recorded_identity
from zsfuse_ray.config.models import PromptOptions
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.head import Head
from zsfuse_ray.method.labels import LONGEST
from zsfuse_ray.models.catalog import ModelSpec, revision_of
from zsfuse_ray.runs.folder import Output

log = logging.getLogger(__name__)

CONFIG, WEIGHTS, CARD = "config.json", "head.safetensors", "README.md"
_LARGEST = {CONFIG: 1 << 20, WEIGHTS: 1 << 28}  # bytes; larger files are none of ours


@dataclass(frozen=True, eq=False)
class SavedHead:
    """A head in a folder. about: its config.json; digest: a hash of its weights, labels and temperature."""

    uri: str
    head: Head
    about: dict[str, Any]
    digest: str

    def check(self, facts: Mapping[str, Any]) -> None:
        """InputError unless it was fitted on the vectors of the specialist with these facts.

        facts: model and revision, and once known, labels and vector_dim.
        """
        own = self.about["specialist"]
        if recorded_identity(own) != recorded_identity(facts):
            raise InputError(
                f"--head {self.uri} was fitted on the vectors of {own['model']} of revision "
                f"{own['revision']}, not of {facts['model']} of revision {facts['revision']}; fit one with "
                "train --from-table"
            )
        for name in ("labels", "vector_dim"):
            if name in facts and own[name] != facts[name]:
                raise InputError(
                    f"--head {self.uri} is for a specialist with {name} {own[name]}, not {facts[name]}"
                )

    def describe(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The facts of its specialist with the head's labels, as run.json records them; checks them first."""
        self.check(facts)
        head = {"folder": self.uri, "digest": self.digest, "normalise": self.about["normalise"]}
        return {**facts, "labels": list(self.head.labels), "head": head}


def head_of(config: PromptOptions, facts: Mapping[str, Any] | None) -> SavedHead | None:
    """The head of ``--head``, None without one.

    facts: of the specialist, None without one. InputError for a head that was fitted on another.
    """
    if config.head is None:
        return None
    saved = open_head(config.head)
    if facts is None:
        raise InputError(f"--head {saved.uri} needs the specialist that it was fitted on; there is none")
    saved.check(facts)
    return saved


def facts_of_spec(spec: ModelSpec) -> dict[str, Any]:
    """What is known of a model before it is loaded: its name and revision."""
    return {"model": str(spec), "revision": revision_of(spec)}


def warn_of_head(saved: SavedHead | None, normalise: str) -> None:
    """Log a warning if labelling normalises vectors and the fit of the head did not, or the reverse."""
    if saved is not None and ((then := saved.about["normalise"]) == "none") != (normalise == "none"):
        log.warning(
            f"warning: --head {saved.uri} was fitted with --normalise {then}, not {normalise}: use the same"
        )


def described(facts: Mapping[str, dict[str, Any]], saved: SavedHead | None) -> dict[str, dict[str, Any]]:
    """The facts of the models that label, by kind, with the labels of the head."""
    if saved is None or "specialist" not in facts:
        return dict(facts)
    return {**facts, "specialist": saved.describe(facts["specialist"])}


def identified(models: Mapping[str, str], saved: SavedHead | None) -> dict[str, str]:
    """Identities of the models that label, by kind, with that of the head: for the digest of the tables."""
    if saved is None:
        return dict(models)
    return {**models, "specialist": f"{models['specialist']} head {saved.digest}"}


def digest_of(head: Head) -> str:
    """A hash of 12 hex digits of what a head computes."""
    content = hashlib.sha256(json.dumps([list(head.labels), head.temperature]).encode())
    for values in (head.weight, head.bias):
        content.update(np.ascontiguousarray(values, np.float32).tobytes())
    return content.hexdigest()[:12]


def open_head(uri: str) -> SavedHead:
    """Read a head's folder; InputError if it is none, or damaged."""
    out = Output.open(uri, "--head")
    for name, most in _LARGEST.items():
        file = out.fs.get_file_info(out.path(name))
        if file.type != pafs.FileType.File:
            raise InputError(f"--head {out.uri} has no {name}; name an output of train --from-table")
        if file.size > most:
            raise InputError(f"--head {out.uri}: {name} is too large for a head ({file.size:,} bytes)")
    about = out.read_json(CONFIG) or {}
    try:
        tensors = safetensors.numpy.load(out.read_bytes(out.path(WEIGHTS)))
        head, about = _checked(about, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, SafetensorError, InputError) as error:
        line = " ".join(str(error).split())[:200]
        raise InputError(f"--head {out.uri} is damaged, or by another version: {line}") from None
    return SavedHead(out.uri, head, about, digest_of(head))


def _checked(about: dict[str, Any], tensors: Mapping[str, Any]) -> tuple[Head, dict[str, Any]]:
    """The head of a folder's content; ValueError and others for content that is not a head's."""
    own, labels = about["specialist"], tuple(map(str, about["labels"]))
    if about["normalise"] not in ("none", "recording", "speaker"):
        raise ValueError(f"normalise {about['normalise']}")
    if not isinstance(own["model"], str) or "revision" not in own:
        raise ValueError("its specialist is not named")
    if labels[: len(own["labels"])] != tuple(own["labels"]):
        raise ValueError("its labels do not begin with those of its specialist")
    if not all(0 < len(label) <= LONGEST and label.isprintable() for label in labels):
        raise ValueError("a label is empty, too long or not printable")
    weight, bias = tensors["weight"], tensors["bias"]
    if weight.shape != (len(labels), own["vector_dim"]) or bias.shape != (len(labels),):
        raise ValueError(f"weights of shape {weight.shape}")
    temperature = float(about["temperature"])
    if not (np.isfinite(weight).all() and np.isfinite(bias).all() and 0 < temperature < math.inf):
        raise ValueError("its numbers are not finite")
    return Head(labels, weight, bias, temperature), about
