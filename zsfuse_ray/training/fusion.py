"""Fine-tune a specialist together with the layer that fuses it with an audio-language model.

The layer is that of `method.concat`. The audio-language model is not trained: it encodes the same clips as
the specialist, augmented and amplified. The specialist's own head is trained beside the fusion, on vectors
without gradient, so that the saved folder is a specialist, too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zsfuse_ray.archive.describe import embed_bank, facts_of
from zsfuse_ray.archive.wanted import identity, recorded_identity
from zsfuse_ray.audio.resample import resample
from zsfuse_ray.config.fusion import FITTED, HERE, ModelOf, Prompted, packed
from zsfuse_ray.config.models import PromptOptions
from zsfuse_ray.config.options import build
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.method.calibration import fit
from zsfuse_ray.method.concat import Concat, zero_shot_scores
from zsfuse_ray.method.logistic import Classifier
from zsfuse_ray.method.zeroshot import softmax
from zsfuse_ray.models.catalog import ModelSpec, load, parse_spec, revision_of
from zsfuse_ray.models.encoding import embed_clips
from zsfuse_ray.models.families.classifier import inputs_of
from zsfuse_ray.training.specialist import Learner, Specialist
from zsfuse_ray.training.task import Batch

USUAL_ALM = "pooled-alm:mini"
_BATCH_S = 40.0  # seconds of audio that the audio-language model encodes at once
TEMPERATURE = "temperature"  # the metric with the fusion's temperature on the dev clips


class ZeroShot:
    """Clips → zero-shot scores of the audio-language model, without gradient."""

    def __init__(self, config: TrainConfig, labels: tuple[str, ...], rate: int):
        """rate: of the clips, in Hz. InputError for labels that the model cannot tell apart."""
        self.config, self.rate = config, rate
        self.spec = parse_spec(config.alm or USUAL_ALM, "alm")
        model: Any = load(self.spec, "cuda" if torch.cuda.is_available() else "cpu")
        self.model, self.facts = model, facts_of(self.spec, model)
        given = {name: getattr(config, name) for name in FITTED if name != "labels"}
        bank, _ = embed_bank(model, labels, build(PromptOptions, given))
        self.text = bank.reshape(-1, *bank.shape[2:])
        self.size = len(labels) * (len(self.text) if config.per_prompt else 1)

    def __call__(self, clips: list[Tensor]) -> Tensor:
        """Return scores (n, size) of 1-D float clips, on their device."""
        c = self.config
        own = [resample(clip.detach(), self.rate, self.model.sample_rate) for clip in clips]
        audio, _ = embed_clips(self.model, own, c.audio_repeats, batch_s=_BATCH_S)
        found = zero_shot_scores(
            audio.numpy(), self.text, self.model.scale, c.scores, c.ensemble, c.per_prompt
        )
        return torch.from_numpy(found).float().to(clips[0].device)


class ConcatLayer(nn.Module):
    """[LayerNorm(vector) ; LayerNorm(zero-shot scores)] → logits."""

    def __init__(self, vector_dim: int, scores: int, labels: int, dropout: float = 0.0):
        super().__init__()
        self.vector_norm, self.score_norm = nn.LayerNorm(vector_dim), nn.LayerNorm(scores)
        self.dropout, self.linear = nn.Dropout(dropout), nn.Linear(vector_dim + scores, labels)

    def forward(self, vectors: Tensor, scores: Tensor) -> Tensor:
        """Return logits (n, labels) of vectors (n, V) and scores (n, S)."""
        joined = torch.cat([self.vector_norm(vectors), self.score_norm(scores)], dim=1)
        return self.linear(self.dropout(joined))

    @torch.no_grad()
    def folded(self, temperature: float) -> Classifier:
        """Return the same function as a classifier of plain layer norms: gains and offsets are folded in."""
        gain, offset = (
            torch.cat([getattr(self.vector_norm, name), getattr(self.score_norm, name)]).double().cpu()
            for name in ("weight", "bias")
        )
        weight, bias = self.linear.weight.double().cpu(), self.linear.bias.double().cpu()
        coef, intercept = (weight * gain).numpy(), (bias + weight @ offset).numpy()
        return Classifier(coef, intercept, temperature=temperature)


class FusionLearner(Learner):
    """The classifier and the fusion; its logits are the fusion's and then the classifier's own."""

    def __init__(self, *given: Any, zero_shot: ZeroShot):
        super().__init__(*given)
        self.zero_shot = zero_shot
        labels = given[3]
        width = inputs_of(self.model.classifier)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            self.concat = ConcatLayer(width, zero_shot.size, len(labels), self.config.dropout)

    def logits(self, batch: Batch) -> Tensor:
        """Return (clips, 2 · labels) float32."""
        kept: list[Tensor] = []
        hook = self.model.classifier.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
        try:
            super().logits(batch)
        finally:
            hook.remove()
        vectors = kept[0]
        with torch.no_grad():
            scores = self.zero_shot(batch.clips)
        fused = self.concat(vectors.float(), scores)
        own = self.model.classifier(vectors.detach())
        return torch.cat([fused.float(), own.float()], dim=1)

    def losses(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the summed losses of both heads, and the summed weights of the clips."""
        fused, own = (super(FusionLearner, self).losses(part, batch) for part in logits.chunk(2, dim=1))
        return fused[0] + own[0], fused[1]


class Fusion(Specialist):
    """Audio → logits of the fusion, see the top of this file; a Task of ``training.task``."""

    module: FusionLearner

    @staticmethod
    def check(config: TrainConfig, table: pa.Table) -> int:
        """Return the sample rate in Hz. InputError if --init is no classifier, or there is no such ALM."""
        revision_of(parse_spec(config.alm or USUAL_ALM, "alm"))
        return Specialist.check(config, table)

    def learner(self, *given: Any) -> FusionLearner:
        """The module to train."""
        return FusionLearner(*given, zero_shot=ZeroShot(self.config, self.labels, self.sample_rate))

    def groups(self) -> list[dict[str, Any]]:
        """AdamW's parameter groups: those of the specialist, and the fusion's at the rate of a new head."""
        c = self.config
        named = dict(self.module.concat.named_parameters())
        decays = {True: c.weight_decay, False: 0.0}
        own = [
            {"params": [p for p in named.values() if (p.ndim > 1) == wide], "lr": c.head_lr or c.lr}
            | {"weight_decay": decay}
            for wide, decay in decays.items()
        ]
        return [*super().groups(), *own]

    def metrics(self, outputs: NDArray[np.float32], rows: NDArray[np.int64]) -> dict[str, float]:
        """Return UA and macro-F1 of the fusion, UA of the specialist alone, and the fusion's temperature."""
        fused, own = np.split(outputs, 2, axis=1)
        targets = self.module.targets.cpu().numpy()[rows]
        alone = super().metrics(own, rows)["dev_ua"]
        figures = super().metrics(fused, rows) | {"dev_specialist_ua": alone}
        return figures | {TEMPERATURE: fit(lambda t: softmax(fused / t), targets)}

    def save(self, folder: Path, figures: Mapping[str, float]) -> None:
        """Write the specialist's folder, and in it the fusion with its temperature on the dev clips."""
        super().save(folder, figures)
        c, zero_shot = self.config, self.module.zero_shot
        temperature = figures.get(TEMPERATURE, 1.0)
        concat = Concat(self.module.concat.folded(temperature), c.scores, c.per_prompt)
        given: dict[str, Any] = {name: getattr(c, name) for name in FITTED if name != "labels"}
        options = Prompted(**given, labels=self.labels, normalise="none")
        specialist = ModelSpec("classifier", str(folder))
        models = {
            "alm": ModelOf(name=str(zero_shot.spec), identity=recorded_identity(zero_shot.facts)),
            "specialist": ModelOf(name=f"classifier:{HERE}", identity=identity(specialist)),
        }
        licences = dict.fromkeys(
            str(one or "not stated") for one in (self.licence, zero_shot.facts["licence"])
        )
        about = {"licence": "; ".join(licences), "temperature": temperature}
        for name, content in packed(concat, options, models, about).items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)

    def card(self) -> Mapping[str, Any]:
        """Facts of the model for its card."""
        alm = self.module.zero_shot.facts
        fused = f"concat with the zero-shot scores ({self.config.scores}) of {alm['model']}"
        return {**super().card(), "fusion": fused, "alm_licence": alm["licence"]}
