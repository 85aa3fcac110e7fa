"""A setting of the method's options, and its posteriors, computed by the plain functions of ``method``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zsfuse_ray.experiments.evidence import Evidence, Text
from zsfuse_ray.method.calibration import fit
from zsfuse_ray.method.fusion import Rule, fuse
from zsfuse_ray.method.zeroshot import Ensemble, posterior, scores, softmax


@dataclass(frozen=True)
class Setting:
    """All options except prompts and fusion weight: copies, rules, temperature and models."""

    a: int
    text: Text
    ensemble: Ensemble
    fusion: Rule
    temperature: float
    alm: str = "alm"
    specialist: str | None = "specialist"

    @property
    def name(self) -> str:
        """A name for files and trials, unique within a tuning except for the separator."""
        words = f"_words{self.text.words}" if self.text.words > 1 else ""
        models = "".join(f"{name}_" for name in (self.alm, self.specialist) if name and name[-1].isdigit())
        return f"{models}a{self.a}_b{self.text.b}{words}_{self.ensemble}_{self.fusion}_T{self.temperature:g}"


def alm_posterior(
    evidence: Evidence, setting: Setting, rows: NDArray, prompts: Sequence[int] | NDArray | None = None
) -> NDArray[np.float64]:
    """Return the ALM's posteriors (rows, C) with these prompts (default: all)."""
    alm = evidence.alms[setting.alm]
    text = alm.text[setting.text]
    text = text if prompts is None else text[prompts]
    return posterior(alm.audio[setting.a][rows], text, alm.scale, setting.ensemble, setting.temperature)


def fitted(
    evidence: Evidence, rows: NDArray, setting: Setting, prompts: Sequence[int] | NDArray | None = None
) -> Setting:
    """Return the setting with the maximum-likelihood temperature of the ALM on these rows."""
    alm = evidence.alms[setting.alm]
    text, audio = alm.text[setting.text], alm.audio[setting.a][rows]
    text = text if prompts is None else text[prompts]
    if setting.ensemble == "probability":  # of each prompt, as their posteriors are averaged
        each = np.stack([scores(audio, one[None], alm.scale, "logit") for one in text])
    else:
        each = scores(audio, text, alm.scale, setting.ensemble)[None]
    temperature = fit(lambda t: softmax(each / t).mean(axis=0), evidence.targets[rows])
    return replace(setting, temperature=temperature)


def fused_posterior(
    evidence: Evidence,
    setting: Setting,
    weight: float,
    rows: NDArray,
    prompts: Sequence[int] | NDArray | None = None,
) -> NDArray[np.float64]:
    """Return the fused posteriors (rows, C) at fusion weight ``weight``; without a specialist, the ALM's."""
    if setting.specialist is None:
        return alm_posterior(evidence, setting, rows, prompts)
    specialist = evidence.specialists[setting.specialist]
    if weight == 0 and specialist.inside.all():
        return specialist.posterior[rows]
    alm = alm_posterior(evidence, setting, rows, prompts)
    return fuse(specialist.posterior[rows], alm, weight, setting.fusion, specialist.inside)
