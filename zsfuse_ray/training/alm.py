"""Train an ALM contrastively; positives are all captions that are true of a clip (see ``captions``)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.corpora.clips import label_set
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.amplify import filled
from zsfuse_ray.method.metrics import macro_f1, ua
from zsfuse_ray.method.prompts import prompt_grid
from zsfuse_ray.method.zeroshot import scores
from zsfuse_ray.models.alm import AudioLanguageModel
from zsfuse_ray.models.encoding import periodic
from zsfuse_ray.training.augment import masks
from zsfuse_ray.training.captions import CAPTIONS, Captions, captions_of
from zsfuse_ray.training.contrastive import gather, info_nce, sigmoid
from zsfuse_ray.training.optimiser import layerwise_groups
from zsfuse_ray.training.pretrained import FEATURES, quieten
from zsfuse_ray.training.start import check_start, start
from zsfuse_ray.training.task import Batch, count

_LARGEST_LOG_SCALE = np.log(100)  # as CLIP's; beyond it training is unstable
_FIRST_BIAS = -10.0  # SigLIP's: initial probabilities of a match are near 0


class Contrastive:
    """Audio and captions → one space; the Task of ``training.task``."""

    score = "dev_ua"

    @staticmethod
    def check(config: TrainConfig, table: pa.Table) -> int:
        """Return the sample rate in Hz. InputError if a clip can fill no caption, or for an invalid start."""
        if len(label_set(table)) < 2:
            raise InputError("an ALM needs clips of at least two labels")
        _captions(config, table)
        return check_start(config)

    def __init__(self, config: TrainConfig, table: pa.Table):
        self.config, self.table = config, table
        init = start(config)
        self.alm, self.trained = init.alm, init.audio_trained
        self.sample_rate, self.window = self.alm.sample_rate, self.alm.window
        self.same_length = self.alm.same_length
        self.captions = _captions(config, table)
        network = self.alm.network
        quieten(network.audio_model.config)
        quieten(network.text_model.config)
        network.requires_grad_(False)
        for name, parameter in network.audio_model.named_parameters():
            features = any(part in name for part in FEATURES)
            frozen = {
                "auto": self.trained and features,
                "nothing": False,
                "features": features,
                "encoder": True,
            }[config.freeze]
            parameter.requires_grad = not frozen and "masked_spec_embed" not in name
        network.text_model.requires_grad_(config.text_lr > 0)
        network.text_projection.requires_grad_(config.text_lr > 0 or not init.text_projection_trained)
        for part in (network.audio_projection, self.alm.logit_scale):
            part.requires_grad_(True)
        if config.gradient_checkpointing:
            network.audio_model.gradient_checkpointing_enable({"use_reentrant": False})
        self.module = Pairs(self.alm, self.captions, config)
        self.labels = label_set(table)
        self.targets = np.array([self.labels.index(name) for name in table["emotion"].to_pylist()])
        self.corpora = np.array([str(name) for name in table["corpus"].to_pylist()])

    def groups(self) -> list[dict[str, Any]]:
        """AdamW's parameter groups: layers of both encoders; projections, logit scale and bias."""
        c, network = self.config, self.alm.network
        joints = nn.ModuleList([network.audio_projection, network.text_projection])
        joints.register_parameter("scale", self.alm.logit_scale)
        joints.register_parameter("bias", self.module.bias)
        return [
            *layerwise_groups(network.audio_model, c.lr, c.weight_decay, c.layer_decay),
            *layerwise_groups(network.text_model, c.text_lr, c.weight_decay, c.layer_decay),
            *layerwise_groups(joints, c.head_lr or c.lr, c.weight_decay),
        ]

    def outputs(self, batch: Batch) -> Tensor:
        """Return (clips, dim) normalised float32 embeddings, equal to those of the saved model."""
        return self.alm.embed_audio(self.module.tiled(batch))

    def metrics(self, outputs: NDArray[np.float32], rows: NDArray[np.int64]) -> dict[str, float]:
        """Return zero-shot UA and macro-F1 of the prompt ensemble, each the mean over corpora.

        A corpus' clips are classified among its own labels.
        """
        figures: dict[str, list[float]] = {"dev_ua": [], "dev_macro_f1": []}
        corpora, targets = self.corpora[rows], self.targets[rows]
        text, _ = self.alm.embed_text(
            [p for row in prompt_grid(self.labels, self.config.templates) for p in row]
        )
        bank = text.cpu().numpy().reshape(-1, len(self.labels), text.shape[1])
        scored = scores(outputs, bank, self.alm.scale)
        for corpus in np.unique(corpora):
            rows_of_corpus = corpora == corpus
            known = np.isin(np.arange(len(self.labels)), self.targets[self.corpora == corpus])
            guesses = np.where(known, scored[rows_of_corpus], -np.inf).argmax(axis=1)
            figures["dev_ua"].append(ua(targets[rows_of_corpus], guesses, len(self.labels)))
            figures["dev_macro_f1"].append(macro_f1(targets[rows_of_corpus], guesses, len(self.labels)))
        return {name: float(np.mean(values)) for name, values in figures.items()}

    def save(self, folder: Path, figures: Mapping[str, float]) -> None:
        """Write the model folder of family clap or dual."""
        self.alm.save(folder, torch.float16 if self.config.half else torch.float32)

    def card(self) -> Mapping[str, Any]:
        """Facts of the model for its card."""
        network = self.alm.network
        parameters = list(network.parameters())
        return {
            "family": network.config.model_type,
            "class": type(network).__name__,
            "audio encoder": network.config.audio_config.model_type,
            "text encoder": network.config.text_config.model_type,
            "text encoder trained": self.config.text_lr > 0,
            "captions": list(self.captions.templates),
            "emotions in training": list(self.labels),
            "parameters": count(parameters),
            "trained_parameters": count([p for p in parameters if p.requires_grad]),
            "start": "the weights of --init" if self.trained else "random weights of the audio encoder",
            "start_licence": self.alm.licence,
            "sample_rate": self.sample_rate,
        }


class Pairs(nn.Module):
    """Both towers and the captions: forward(Batch) returns the summed losses and the number of clips."""

    def __init__(self, alm: AudioLanguageModel, captions: Captions, config: TrainConfig):
        super().__init__()
        self.network = alm.network
        self.bias = nn.Parameter(torch.tensor(_FIRST_BIAS)) if config.contrastive == "sigmoid" else None
        self.alm, self.captions, self.config = alm, captions, config

    def train(self, mode: bool = True) -> "Pairs":
        """Set training mode; frozen encoders stay in eval mode, without dropout."""
        super().train(mode)
        if not self.config.text_lr:
            self.network.text_model.eval()
        if self.config.freeze == "encoder":
            self.network.audio_model.eval()
        return self

    def tiled(self, batch: Batch) -> list[Tensor]:
        """Return the clips, tiled by the model's fill."""
        window, fill = self.alm.window, self.alm.fill
        return [periodic(clip, 0, filled(len(clip), 1, window, fill)) for clip in batch.clips]

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss summed over this worker's clips, and their number."""
        assert batch.seeds is not None, "dev clips have no loss"
        clips = self.tiled(batch)
        with torch.no_grad():
            inputs = self.alm.features(clips)
            if self.config.time_masks or self.config.frequency_masks:
                self._mask(inputs, clips, batch.seeds)
        audio = normalize(self.alm.audio(inputs).float(), dim=-1)
        drawn = [self.captions.draw(int(r), int(s)) for r, s in zip(batch.rows, batch.seeds, strict=True)]
        words = sorted({text for _, text in drawn})  # many clips share a caption
        ids, mask = self.alm.pad_tokens(self.alm.tokens(words)[0])
        text = normalize(self.alm.text(ids, mask).float(), dim=-1)
        text = text[torch.tensor([words.index(text) for _, text in drawn], device=text.device)]
        about = np.stack([batch.rows, batch.partners, [template for template, _ in drawn]], axis=1)
        shared = gather(
            audio,
            text,
            torch.from_numpy(about.astype(np.int64)).to(audio.device),
            torch.from_numpy(np.asarray(batch.shares)).to(audio.device),
        )
        audio, text, about, shares = shared.tensors
        truth, known = self._truth(about.cpu().numpy(), shares)
        with torch.autocast(audio.device.type, enabled=False):  # bfloat16 cosines, of 8 bits, would tie
            scale = self.alm.logit_scale.clamp(max=_LARGEST_LOG_SCALE).exp()
            if self.bias is None:
                smoothing = self.config.label_smoothing
                loss = info_nce(audio, text, scale, truth, known, shared.own, smoothing)
            else:
                loss = sigmoid(audio, text, scale, self.bias, truth, known, shared.own)
        return loss, loss.new_tensor(float(len(batch.rows)))

    def _truth(self, about: NDArray[np.int64], shares: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N, N) the probability that caption j is true of (mixed) clip i, and whether it is known."""
        rows, partners, templates = about.T
        true, known = (
            torch.from_numpy(x).to(shares.device) for x in self.captions.truth(rows, rows, templates)
        )
        if not shares.any():
            return true.float(), known
        other, other_known = (
            torch.from_numpy(x).to(shares.device) for x in self.captions.truth(partners, rows, templates)
        )
        part = shares[:, None]
        return (1 - part) * true + part * other, known | (other_known & (part > 0))

    def _mask(self, inputs: dict[str, Tensor], clips: list[Tensor], seeds: NDArray[np.int64]) -> None:
        """Replace spans of frames and of bands in each clip's features by the mean."""
        name = next(name for name in ("pixel_values", "input_features", "input_values") if name in inputs)
        values = inputs[name]
        if name == "input_values" and values.ndim == 2:
            values = values[..., None]  # a waveform has one band
        elif values.ndim == 4:
            values = values[:, 0]
        elif self.network.config.audio_config.model_type == "whisper":
            values = values.transpose(1, 2)
        if "filled" in inputs:
            lengths = (inputs["filled"] * values.shape[1]).round().long().tolist()
        elif "attention_mask" in inputs:
            lengths = inputs["attention_mask"].sum(dim=1).tolist()
        else:
            longest = self.alm.window or max(map(len, clips))
            lengths = [values.shape[1] * len(clip) // longest for clip in clips]
        stride = getattr(self.alm.extractor, "stride", 1)
        hop = 1 if values.shape[2] == 1 else getattr(self.alm.extractor, "hop_length", 160) * stride
        rate = self.alm.sample_rate / hop
        for row, length, seed in zip(values, lengths, seeds, strict=True):
            frames = row[: max(1, length)]
            bands = row.shape[1] // stride
            hidden, narrow = masks(len(frames), bands, rate, int(seed), self.config)
            mean = frames.mean()
            for begin, end in hidden:
                frames[begin:end] = mean
            for begin, end in narrow if bands > 1 else ():
                frames.unflatten(1, (stride, bands))[:, :, begin:end] = mean


def _captions(config: TrainConfig, table: pa.Table) -> Captions:
    return captions_of(
        table, config.captions or CAPTIONS, config.caption_words, mask_unknown=config.mask_unknown
    )
