"""What a run over an archive says on the screen: of its models at the start, of its results at the end."""

import sys
from collections.abc import Mapping
from typing import Any

from zsfuse_ray.archive.describe import model_specs
from zsfuse_ray.config.models import EncoderOptions
from zsfuse_ray.models.catalog import UNTRAINED, quality


def say_models(config: EncoderOptions, preset: str) -> dict[str, Any] | None:
    """Say of models without training or with known figures what they are worth; return these figures."""
    figures = quality(model_specs(config).values())
    if figures:
        known = ", ".join(f"{corpus} {ua['zs_fuse']:.0%}" for corpus, ua in figures["ua"].items())
        print(
            f"preset {preset}: small models for trying out; UA on speakers unheard in training: {known}. "
            "Name larger ones with --alm and --specialist, or --preset paper.",
            file=sys.stderr,
        )
    names = [kind for kind, spec in model_specs(config).items() if spec.checkpoint == UNTRAINED]
    if names:
        print(
            f"UNTRAINED {' and '.join(names)}: random weights, what this run says means nothing. "
            "Name real models with --alm and --specialist, or --preset paper.",
            file=sys.stderr,
        )
    return figures


def summary(run: Mapping[str, Any], uri: str) -> str:
    """What a person wants to see at the end: shares, rejects, where the tables are, how to look at them."""
    counts = run["counts"]
    lines = [
        hours(counts),
        "labels by speech time: " + ", ".join(f"{n} {s:.0%}" for n, s in _largest(counts["label_shares"])),
    ]
    lines += [*reject_lines(counts), *repetition_lines(run)]
    lines += [
        f"tables: {uri}/segments  recordings  rejects   run: {uri}/run.json",
        f"look:   python -c \"import pandas as pd; print(pd.read_parquet('{uri}/segments'))\"",
    ]
    return "\n".join(lines)


def hours(counts: Mapping[str, Any]) -> str:
    """How much audio and speech there is."""
    return (
        f"{counts['audio_hours']:.2f} h of audio in {counts['recordings']:,} recordings, "
        f"{counts['speech_hours']:.2f} h of speech in {counts['segments']:,} segments"
    )


def reject_lines(counts: Mapping[str, Any]) -> list[str]:
    """What was rejected, the most common reason first."""
    reasons = ", ".join(f"{n} {reason}" for reason, n in _largest(counts["rejects"]))
    return [f"rejects: {reasons}"] if reasons else []


def repetition_lines(run: Mapping[str, Any]) -> list[str]:
    """What amplification really did to the audio and to the prompts."""
    lines = repetition_of_audio(run.get("effective_repetition", {}))
    for b, cut in run["models"].get("alm", {}).get("prompts_truncated", {}).items():
        if cut:
            lines.append(f"text × {b}: {cut} prompts were longer than the model reads and were cut")
    return lines


def repetition_of_audio(effective: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What copies of the audio really did."""
    said = {
        "same": "same input as without",
        "fewer": "fewer copies",
        "cropped": "cropped",
        "more": "more copies",
    }
    lines = []
    for a, effects in effective.items():
        total = sum(effects.values())
        if a != "1" and total:
            shares = ", ".join(
                f"{said[name]} {count / total:.0%}" for name, count in effects.items() if count
            )
            lines.append(f"audio × {a}: {shares}")
    return lines


def _largest(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(values.items(), key=lambda item: -item[1])
