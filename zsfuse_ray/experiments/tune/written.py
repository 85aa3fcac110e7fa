"""The options of tuned.yaml and the verdict: the choice on all folds, or w = 0 if fusion has no gain."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.experiments.evidence import Evidence
from zsfuse_ray.experiments.tune.assess import ALM_BEST, BEST, CHOSEN, best_specialist
from zsfuse_ray.experiments.tune.calibrate import calibrate
from zsfuse_ray.experiments.tune.choice import Candidates, Choice, choose
from zsfuse_ray.experiments.verdicts import of_no_weight, of_tuning


def written(
    evidence: Evidence,
    candidates: Candidates,
    config: TuneConfig,
    assessed: Mapping[str, Any],
    names: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the options of tuned.yaml, the verdict behind them, and their calibration.

    evidence: with the temperatures of its specialists that the search used. assessed: the result of `assess`.
    names: the models' names in tuned.yaml, by their keys in the evidence; by default those of the
    configuration.
    """
    names = names or config.models
    rule = CHOSEN if config.choose == "one_se" or not evidence.specialists else BEST
    choice = choose(candidates, evidence.n_folds, config.choose)
    weight, verdict = _judged(choice, config, assessed, rule)
    chosen, setting = choice.configuration, choice.configuration.setting
    specialist = setting.specialist
    if specialist and weight == 0:
        specialist = best_specialist(evidence, evidence.n_folds, config.objective)
    final = replace(chosen, setting=replace(setting, specialist=specialist), weight=weight)
    fused_temperature, calibration = calibrate(evidence, final, refits=not config.temperatures)
    options = {
        "alm": names[setting.alm],
        "specialist": names[specialist] if specialist else "none",
        "labels": list(evidence.labels),
        "templates": [config.templates[t] for t in chosen.templates(evidence.n_prompts)],
        "words": setting.text.words,
        "audio_repeats": [setting.a],
        "text_repeats": [setting.text.b],
        "separator": setting.text.separator,
        "ensemble": setting.ensemble,
        "temperature": setting.temperature,
        "specialist_temperature": evidence.specialists[specialist].temperature if specialist else 1.0,
        "fusion": setting.fusion,
        "weight": weight,
        "fused_temperature": fused_temperature,
        "normalise": config.normalise,
        **({"head": config.head} if config.head else {}),
    }
    return {
        "options": options,
        "verdict": verdict,
        "rule": rule,
        "in_sample": choice.score,
        "calibration": calibration,
    }


def _judged(choice: Choice, config: TuneConfig, assessed: Mapping[str, Any], rule: str) -> tuple[float, str]:
    """The weight to write, 0 for a choice without a gain; and the sentences that give the reason."""
    weight = choice.configuration.weight
    if not assessed["differences"]:
        return weight, "Without a specialist there is no fusion."
    if weight == 0:
        error = choice.error if config.choose == "one_se" else None
        return 0.0, of_no_weight(assessed["differences"][BEST], error, config.objective)
    gain = assessed["differences"][rule]
    verdict = of_tuning(gain, assessed["speakers"])
    if gain["value"] <= 0:
        return 0.0, verdict
    alone, fused = (assessed["systems"][key]["ua"]["value"] for key in (ALM_BEST, rule))
    if alone >= fused:
        verdict += f" The ALM alone does as well: UA {100 * alone:.1f} %, fused {100 * fused:.1f} %."
    return weight, verdict
