"""The models of a run: the facts that run.json records, their prompts and their labelling."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.archive.schemas import kind_of
from zsfuse_ray.config.fusion import TrainedFusion
from zsfuse_ray.config.label import LabellingOptions
from zsfuse_ray.config.models import ModelOptions, PromptOptions
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.head import Head
from zsfuse_ray.method.labelling import Labelling
from zsfuse_ray.method.labels import check_coverage, label_warnings
from zsfuse_ray.method.prompts import check_bank, prompt_grid, repeat_text
from zsfuse_ray.method.readout import Readout
from zsfuse_ray.models.catalog import UNTRAINED, ModelSpec, load, parse_spec, revision_of, split_name

if TYPE_CHECKING:
    from zsfuse_ray.models.alm import AudioLanguageModel


log = logging.getLogger(__name__)


def model_specs(config: ModelOptions) -> dict[str, ModelSpec]:
    """The models of a run by name: "alm", "specialist", and for several of a kind "alm2" …"""
    return {key: parse_spec(name, kind_of(key)) for key, name in config.models.items()}


def is_model(spec: ModelSpec, facts: Mapping[str, Any]) -> bool:
    """Whether these facts describe this model: same family and revision, wherever the checkpoint is stored.

    InputError if the checkpoint does not exist.
    """
    if spec.checkpoint == UNTRAINED:
        return str(spec) == facts["model"]
    family, _ = split_name(facts["model"])
    return family == spec.family and revision_of(spec) == facts["revision"]


@dataclass(frozen=True, eq=False)
class Prompts:
    """Embedded prompts of an ALM (B, P, C, D), its logit scale, and the number truncated by each repeat b.

    unknown: labels with a word that its tokenizer does not have.
    """

    bank: NDArray[np.float32]
    scale: float
    truncated: dict[str, int]
    unknown: tuple[str, ...] = ()

    @property
    def recorded(self) -> dict[str, Any]:
        """The number of prompts and of truncated ones, as run.json records them."""
        return {"prompts_truncated": self.truncated, "prompts": self.bank.shape[0] * self.bank.shape[1]}


@dataclass(frozen=True, eq=False)
class Loaded:
    """What labelling needs of loaded models: the facts of each, and with a config prompts and a readout."""

    facts: dict[str, dict[str, Any]]
    prompts: Prompts | None = None
    readout: Readout | None = None


def load_models(
    specs: Mapping[str, ModelSpec],
    keys: Mapping[str, str] | None = None,
    config: LabellingOptions | None = None,
) -> Loaded:
    """Load each model once. keys, config: of the models that label, by kind, and how they do.

    InputError for vectors that are to be normalised and a specialist without a head for them.
    """
    models: dict[str, Any] = {key: load(spec) for key, spec in specs.items()}
    facts = {key: facts_of(spec, models[key]) for key, spec in specs.items()}
    if keys is None or config is None:
        return Loaded(facts)
    prompts, alm = None, models.get(keys.get("alm", ""))
    if alm is not None:
        bank, truncated = embed_bank(alm, config.labels, config)
        prompts = Prompts(bank, alm.scale, truncated, unknown_words(alm, config.labels))
    if config.normalise == "none":
        return Loaded(facts, prompts)
    return Loaded(facts, prompts, _readout(models.get(keys.get("specialist", "")), alm, config))


def _readout(specialist: Any, alm: Any, config: LabellingOptions) -> Readout:
    """The heads of normalised vectors: the specialist's, and that of an ALM on the same trunk."""
    classifier = getattr(specialist, "classifier", None)
    if classifier is None:
        raise InputError(
            f"--normalise {config.normalise}: --specialist {config.specialist} has no head for normalised "
            "vectors; use --normalise none, or the default specialist"
        )
    projection = getattr(alm, "projection", None)
    is_shared = projection is not None and alm.revision == specialist.revision
    return Readout(classifier, projection if is_shared else None)


def unknown_words(model: "AudioLanguageModel", labels: Sequence[str]) -> tuple[str, ...]:
    """Labels with a word that is no single token of the ALM's tokenizer, with or without a leading space."""
    tokenizer = getattr(model, "tokenizer", None)  # a third-party class may have none
    if tokenizer is None:
        return ()
    unknown = getattr(tokenizer, "unk_token", None)

    def is_known(word: str) -> bool:
        forms = (tokenizer.tokenize(form) for form in (word, f" {word}"))
        return any(len(pieces) == 1 and pieces[0] != unknown for pieces in forms)

    return tuple(label for label in labels if not all(map(is_known, label.split())))


def facts_of(spec: ModelSpec, model: Any) -> dict[str, Any]:
    """The facts of a loaded model that run.json records, and the sizes of its outputs."""
    facts = {"model": str(spec), "revision": model.revision, "licence": model.licence}
    facts["trained_on"] = list(getattr(model, "trained_on", ()))
    facts |= {"sample_rate": model.sample_rate, "window": model.window, "fill": model.fill}
    if model.kind == "alm":
        return facts | {"dim": model.dim, "scale": model.scale}
    return facts | {"labels": list(model.labels), "vector_dim": model.vector_dim}


def embed_bank(
    model: "AudioLanguageModel", labels: Sequence[str], config: PromptOptions
) -> tuple[NDArray[np.float32], dict[str, int]]:
    """Return the embedded prompts (B, P, C, D), and the number truncated for each text repeat b.

    InputError for labels that the model cannot tell apart, see `check_bank`.
    """
    grid = prompt_grid(labels, config.templates, config.words)
    texts = [
        repeat_text(prompt, b, config.separator)
        for b in config.text_repeats
        for row in grid
        for prompt in row
    ]
    embeddings, cut = model.embed_text(texts)
    shape, expected = tuple(embeddings.shape), (len(texts), model.dim)
    if shape != expected:
        raise InputError(f"the ALM's text embeddings have shape {shape}, expected {expected}")
    sizes = (len(config.text_repeats), len(grid), len(labels))
    truncated = np.reshape(cut, (sizes[0], -1)).sum(axis=1).tolist()
    bank = embeddings.float().cpu().numpy().reshape(*sizes, -1)
    check_bank(bank, labels, sum(truncated))
    return bank, dict(zip(map(str, config.text_repeats), truncated, strict=True))


def make_labelling(
    config: LabellingOptions,
    facts: Mapping[str, Mapping[str, Any]],
    prompts: Prompts | None,
    readout: Readout | None = None,
    head: Head | None = None,
    trained: TrainedFusion | None = None,
) -> Labelling:
    """The labelling of outputs of the models ("alm", "specialist") with these facts.

    head: of the specialist, whose facts then have its labels; trained: the fusion of ``--fusion FOLDER``.
    InputError if the specialist has too few of the labels, see `check_coverage`, and for a trained fusion of
    vectors of another size.
    """
    if line := check_labels(config, facts):
        log.warning(f"warning: {line}")
    own = facts["specialist"]["labels"] if "specialist" in facts else None
    for line in label_warnings(config.labels, own, "alm" in facts, prompts.unknown if prompts else ()):
        log.warning(f"warning: {line}")
    bank = prompts.bank if prompts else None
    if trained is not None and bank is not None:
        _check_sizes(trained, facts["specialist"]["vector_dim"] or 0, bank)
    return Labelling(
        labels=config.labels,
        text=None if bank is None else bank.reshape(-1, *bank.shape[2:]),
        scale=prompts.scale if prompts else 1.0,
        specialist_labels=tuple(facts["specialist"]["labels"]) if "specialist" in facts else None,
        ensemble=config.ensemble,
        temperature=config.temperature,
        specialist_temperature=config.specialist_temperature,
        fused_temperature=config.fused_temperature,
        fusion=config.fusion,
        weight=config.weight,
        unsure_below=config.unsure_below,
        readout=readout,
        head=head,
        concat=trained.concat if trained else None,
    )


def _check_sizes(trained: TrainedFusion, vector_dim: int, bank: NDArray[np.float32]) -> None:
    """InputError if the inputs of a trained fusion do not have the size of these models' outputs."""
    per_label = bank.shape[0] * bank.shape[1] if trained.concat.per_prompt else 1
    expected, own = vector_dim + per_label * bank.shape[2], trained.concat.classifier.coef.shape[1]
    if own != expected:
        raise InputError(
            f"--fusion {trained.uri} reads {own:,} values of a segment, its models have {expected:,}; train "
            "another fusion"
        )


def check_labels(config: LabellingOptions, facts: Mapping[str, Mapping[str, Any]]) -> str | None:
    """InputError if there is a specialist with too few of the labels; returns a warning or None."""
    specialist = facts.get("specialist")
    if specialist is None:
        return None
    return check_coverage(specialist["model"], specialist["labels"], config.labels, config.alm != "none")
