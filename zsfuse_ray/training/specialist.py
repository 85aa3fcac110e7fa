"""Fine-tune or train an audio classifier of transformers into a specialist."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad

from zsfuse_ray.audio.features import FRONT_ENDS, FrontEnd, Waveforms, WhisperMel
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.corpora.clips import label_set
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.metrics import macro_f1, ua
from zsfuse_ray.models.checkpoints.find import has_weights
from zsfuse_ray.models.checkpoints.load import download, quiet
from zsfuse_ray.models.networks.speech import heeds_mask, receptive_field
from zsfuse_ray.training.adapters import add_lora, merged
from zsfuse_ray.training.augment import masks
from zsfuse_ray.training.losses import balanced_weights, classification_loss, soft_targets
from zsfuse_ray.training.optimiser import layerwise_groups
from zsfuse_ray.training.pretrained import HEAD, extractor_of, freeze, model_of, start_of
from zsfuse_ray.training.task import Batch, count, device_of


class Specialist:
    """Audio → logits over the emotions of the training clips; the Task of ``training.task``."""

    score = "dev_ua"

    @staticmethod
    def check(config: TrainConfig, table: pa.Table) -> int:
        """Return the sample rate in Hz. Raises InputError if --init is not an audio classifier."""
        if len(label_set(table)) < 2:
            raise InputError("a specialist needs clips of at least two labels")
        return extractor_of(start_of(config), config).sampling_rate

    def __init__(self, config: TrainConfig, table: pa.Table):
        self.config = config
        checkpoint = download(start_of(config))
        self.licence = checkpoint.licence
        self.extractor = extractor_of(checkpoint, config)
        self.sample_rate: int = self.extractor.sampling_rate
        self.labels = label_set(table)
        self.trained = has_weights(checkpoint.folder) and not config.from_scratch
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = model_of(checkpoint, config, self.labels, self.trained)
            freeze(model, config.freeze, self.trained)
            self.adapted = (
                add_lora(model, config.lora_rank, config.lora_alpha, HEAD) if config.lora_rank else None
            )
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        features = FRONT_ENDS[type(self.extractor).__name__](self.extractor)
        self.window: int | None = features.window
        self.same_length = isinstance(features, Waveforms) and not (
            features.masked and heeds_mask(model.config)
        )
        self.module = self.learner(model, features, table, self.labels, config)

    def learner(self, *given: Any) -> "Learner":
        """The module to train, from the arguments of `Learner`."""
        return Learner(*given)

    def groups(self) -> list[dict[str, Any]]:
        """AdamW's parameter groups: the head, and each layer with its own rate."""
        c = self.config
        return layerwise_groups(self.module.model, c.lr, c.weight_decay, c.layer_decay, HEAD, c.head_lr)

    def outputs(self, batch: Batch) -> Tensor:
        """Return (clips, labels) float32 logits, equal to those of the saved model."""
        return self.module.logits(batch)

    def metrics(self, outputs: NDArray[np.float32], rows: NDArray[np.int64]) -> dict[str, float]:
        """Return UA and macro-F1, means over corpora; a corpus' clips are classified among its own labels."""
        targets = self.module.targets.cpu().numpy()[rows]
        known = self.module.known.cpu().numpy()[rows]
        guesses = np.where(known, outputs, -np.inf).argmax(axis=1)
        corpora = self.module.corpora[rows]
        groups = [corpora == name for name in np.unique(corpora)]
        figures = {"dev_ua": ua, "dev_macro_f1": macro_f1}
        return {
            name: float(np.mean([figure(targets[g], guesses[g], len(self.labels)) for g in groups]))
            for name, figure in figures.items()
        }

    def save(self, folder: Path, figures: Mapping[str, float]) -> None:
        """Write a save_pretrained folder; adapters are merged into the weights."""
        model = merged(self.adapted) if self.adapted else copy.deepcopy(self.module.model)
        model.config.architectures = [type(model).__name__]
        dtype = torch.float16 if self.config.half else torch.float32
        with quiet():
            model.requires_grad_(False).cpu().to(dtype).save_pretrained(folder)
            self.extractor.save_pretrained(folder)

    def card(self) -> Mapping[str, Any]:
        """Facts of the model for its card."""
        model = self.module.model
        parameters = list(model.parameters())
        return {
            "family": "classifier",
            "class": type(model).__name__,
            "labels": list(self.labels),
            "parameters": count(parameters),
            "trained_parameters": count([p for p in parameters if p.requires_grad]),
            "start": "the weights of --init" if self.trained else "random weights",
            "start_licence": self.licence,
            "sample_rate": self.sample_rate,
        }


class Learner(nn.Module):
    """The classifier with front end and targets; forward(Batch) returns summed losses and summed weights."""

    targets: Tensor
    known: Tensor
    class_weights: Tensor

    def __init__(
        self, model: Any, features: FrontEnd, table: pa.Table, labels: tuple[str, ...], config: TrainConfig
    ):
        super().__init__()
        self.model, self.features, self.config = model, features, config
        self.shortest = max(features.minimum, receptive_field(model.config))
        targets = torch.tensor([labels.index(name) for name in table["emotion"].to_pylist()])
        self.corpora = np.array([str(name) for name in table["corpus"].to_pylist()])
        of_corpus = {}
        for corpus in np.unique(self.corpora):
            of_corpus[corpus] = torch.zeros(len(labels), dtype=torch.bool)
            of_corpus[corpus][targets[torch.from_numpy(self.corpora == corpus)]] = True
        in_training = torch.tensor([split == "train" for split in table["split"].to_pylist()])
        weights = torch.ones(len(labels))
        if config.class_weights == "balanced":
            weights = balanced_weights(targets[in_training], len(labels))
        self.register_buffer("targets", targets, persistent=False)
        self.register_buffer("known", torch.stack([of_corpus[c] for c in self.corpora]), persistent=False)
        self.register_buffer("class_weights", weights, persistent=False)

    def logits(self, batch: Batch) -> Tensor:
        """Return (clips, labels) float32."""
        clips = [pad(c, (0, max(0, self.shortest - len(c)))) for c in batch.clips]
        with torch.no_grad():
            inputs = self.features(clips)
            if batch.seeds is not None and (self.config.time_masks or self.config.frequency_masks):
                self._mask(inputs, clips, batch.seeds)
        return self.model(**inputs).logits.float()

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the summed losses of the clips and their summed weights."""
        return self.losses(self.logits(batch), batch)

    def losses(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the summed losses of logits (clips, labels) and the summed weights of the clips."""
        device = device_of(self.model)
        rows, partners = (torch.from_numpy(r).to(device) for r in (batch.rows, batch.partners))
        shares = torch.from_numpy(batch.shares).to(device)
        targets = soft_targets(self.targets[rows], self.targets[partners], shares, logits.shape[1])
        known = self.known[rows] | (self.known[partners] & (shares > 0)[:, None])
        return classification_loss(
            logits,
            targets,
            self.class_weights,
            known if self.config.mask_unknown else None,
            self.config.label_smoothing,
            self.config.focal_gamma if self.config.loss == "focal" else 0.0,
        )

    def _mask(self, inputs: dict[str, Tensor], clips: list[Tensor], seeds: NDArray[np.int64]) -> None:
        """Replace spans of frames and of bands in each clip's features by the mean."""
        name = next(name for name in inputs if name != "attention_mask")
        values = inputs[name].transpose(1, 2) if isinstance(self.features, WhisperMel) else inputs[name]
        for row, clip, seed in zip(values, clips, seeds, strict=True):
            if isinstance(self.features, Waveforms):
                frames, stride, rate = row[: len(clip), None], 1, 16_000.0
            else:
                stride = getattr(self.features, "stride", 1)
                hop = stride * (self.features.mel.hop if isinstance(self.features, WhisperMel) else 160)
                frames, rate = row[: max(1, len(clip) // hop)], 16_000.0 / hop
            bands = frames.shape[1] // stride
            hidden, narrow = masks(len(frames), bands, rate, int(seed), self.config)
            mean = frames.mean()
            for start, end in hidden:
                frames[start:end] = mean
            for start, end in narrow:
                frames.unflatten(1, (stride, bands))[:, :, start:end] = mean
