"""The sentences that state whether fusion helps."""

from collections.abc import Mapping, Sequence
from typing import Any

from zsfuse_ray.experiments.intervals import FEW_SPEAKERS, why_none


def of_evaluation(gain: Mapping[str, Any], weights: Sequence[float], n_speakers: int) -> str:
    """State whether the fusion chosen on dev helps on test speakers.

    gain: the record of its UA minus the specialist's; weights: the chosen ones, one per round.
    """
    if not any(weights):
        return "Fusion does not help: the weight chosen on dev is 0, so ZS-Fuse is the specialist alone."
    if gain["value"] <= 0:
        return f"Fusion does not help here: {points(gain)} against the specialist alone."
    if unsure := _unsure(gain, n_speakers):
        return f"Fusion may help: {points(gain)} against the specialist alone; {unsure}."
    return f"Fusion helps: {points(gain)} against the specialist alone{_few(n_speakers, 'test speakers')}."


def of_tuning(gain: Mapping[str, Any], n_speakers: int) -> str:
    """State whether a tuning's fusion, of a weight above 0, helps on speakers it was not chosen on."""
    few = _few(n_speakers, "speakers")
    if gain["value"] <= 0:
        return f"Fusion does not help: {points(gain)} on speakers it was not chosen on, so w = 0 is written."
    if unsure := _unsure(gain, n_speakers):
        return f"Fusion may help: {points(gain)} against the specialist alone; {unsure}."
    return f"Fusion helps: {points(gain)} against the specialist alone{few}."


def of_no_weight(best: Mapping[str, Any], error: float | None, objective: str) -> str:
    """State why a tuning chose the specialist alone.

    best: the gain of the best fusion; error: the standard error within which the specialist alone lies, None
    for the rule "best".
    """
    if error is None:
        return "Fusion does not help: the best weight is 0."
    return (
        "Fusion does not help: the specialist alone is within one standard error of the best "
        f"({error:.3f} of {objective}), so w = 0 is written. "
        f"With --choose best: {100 * best['value']:+.1f} points of UA."
    )


def points(gain: Mapping[str, Any]) -> str:
    """A difference of UA, with its interval if it has one."""
    text = f"{100 * gain['value']:+.1f} points of UA"
    if gain["low"] is None:
        return text
    return f"{text} (95 % interval {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"


def _unsure(gain: Mapping[str, Any], n_speakers: int) -> str:
    """Why a positive gain may be chance; "" if its interval is above 0."""
    if gain["low"] is None:
        return f"there is no interval: {why_none(n_speakers)}"
    return "" if gain["low"] > 0 else f"the interval contains 0{_few(n_speakers, 'speakers')}"


def _few(n_speakers: int, who: str) -> str:
    return f", though {n_speakers} {who} are few" if n_speakers < FEW_SPEAKERS else ""
