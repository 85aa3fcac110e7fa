"""Messages of a run over an archive: models and changes at the start, results at the end."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zsfuse_ray.archive.describe import model_specs
from zsfuse_ray.archive.estimate import encoded_bytes
from zsfuse_ray.archive.growth import Changes
from zsfuse_ray.archive.layout import RUN
from zsfuse_ray.archive.plan import Plan
from zsfuse_ray.archive.prior import prior_lines
from zsfuse_ray.archive.result import RunResult
from zsfuse_ray.archive.schemas import kind_of
from zsfuse_ray.config.models import EncoderOptions
from zsfuse_ray.method.labels import UNSURE, dropped_warning
from zsfuse_ray.models.catalog import UNTRAINED, quality
from zsfuse_ray.runs.progress import duration

if TYPE_CHECKING:  # imports torch, which a driver does not need
    from zsfuse_ray.archive.measure import Measured

log = logging.getLogger(__name__)

ONE_SIDED = 0.9  # share of speech time with one label above which to warn


def print_models(config: EncoderOptions, preset: str) -> dict[str, Any] | None:
    """Log the known accuracy of the models and warn of untrained ones; returns the figures."""
    figures = quality(model_specs(config).values())
    if figures:
        known = ", ".join(f"{corpus} {ua['zs_fuse_given']:.0%}" for corpus, ua in figures["ua"].items())
        log.info(
            f"preset {preset}: models that come with the package. UA on speakers held out of training: "
            f"{known}. "
            "Name larger ones with --alm and --specialist, or --preset paper."
        )
    names = [kind for kind, spec in model_specs(config).items() if spec.checkpoint == UNTRAINED]
    if names:
        log.warning(
            f"UNTRAINED {' and '.join(names)}: random weights; the labels of this run are meaningless. "
            "Name real models with --alm and --specialist, or --preset paper."
        )
    return figures


def print_changes(changes: Changes, prune: bool) -> None:
    """Log how the archive has changed since it was planned, if it has."""
    parts = []
    if len(changes.new):
        parts.append(f"{len(changes.new):,} new")
    if changed := len(changes.changed) - changes.again:
        parts.append(f"{changed:,} changed")
    if changes.again:
        parts.append(f"{changes.again:,} that failed before are tried again")
    if len(changes.gone):
        parts.append(f"{len(changes.gone):,} gone ({'dropped' if prune else 'kept; --prune drops them'})")
    if parts:
        log.info(f"recordings since the plan: {', '.join(parts)}")


def plan_text(plan: Plan, decode_s: float | None) -> str:
    """Summary of a plan before a run. decode_s: seconds of decoding, None if not measured."""
    kinds = ", ".join(f"{number} {name}" for name, number in plan.containers.items())
    numbers = {name: int(plan.total(name)) for name in ("playable", "recordings", "items", "bundles")}
    size = encoded_bytes(plan.total("hours"))
    lines = [
        f"{plan.total('hours'):.2f} h of audio in {numbers['playable']:,} of {numbers['recordings']:,} "
        f"recordings ({kinds or 'none'})",
        f"{numbers['items']:,} items in {numbers['bundles']:,} bundles; the plan is in {plan.out.uri}/plan",
        f"encoded/ will take up to {bytes_text(size)} with large models (1,024 values per embedding and "
        "per vector, one copy of the audio), a fifth of that with the small default models",
    ]
    if decode_s is not None:
        took = duration(decode_s)
        lines.append(
            f"about {took} to decode and detect speech (measured on a sample), not including the models"
        )
    return "\n".join(lines)


def cost_text(hours: float, measured: "Measured | None", price: float | None) -> str:
    """Cost of the models for these hours of audio; price: of one device hour, in any currency."""
    if measured is None:
        return "no speech found in the sample; the models were not measured"
    device = "GPU" if measured.on_gpu else "CPU core"
    device_hours = hours * measured.seconds_per_hour / 3600
    text = (
        f"models: about {measured.seconds_per_hour:.3g} s of one {device} per hour of audio (measured on "
        f"{measured.encoded_s:.0f} s of speech), {_number(device_hours)} {device} hours in total"
    )
    if price is not None:
        text += f": about {_number(device_hours * price)} at {price:g} per hour, not including decoding"
    size = encoded_bytes(hours, measured.models, measured.repeats)
    return f"{text}\nencoded/ will take about {bytes_text(size)} with these models"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def bytes_text(size: float) -> str:
    """Bytes in readable units: 1.23 MB."""
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 1000:
            return f"{size:.3g} {unit}"
    return f"{size / 1000:.3g} TB"


def print_result(result: RunResult, max_reject_rate: float) -> int:
    """Print the results of a run; returns its exit code, 1 if more items failed than allowed."""
    print(summary(result.record, result.uri), flush=True)
    run, counts = result.record, result.record["counts"]
    if line := one_sided(counts):
        log.warning(line)
    if share := counts.get("specialist_outside"):
        own = run["models"]["specialist"]["labels"]
        if line := dropped_warning(share, own, run["config"]["labels"]):
            log.warning(f"warning: {line}")
    return exit_code(result.record["counts"], max_reject_rate)


def exit_code(counts: Mapping[str, Any], max_reject_rate: float) -> int:
    """Exit code of a run with these counts; logs an error if it is not 0."""
    tried = max(1, counts["items"] + counts["unreadable"])
    rate = counts["failures"] / tried
    if rate <= max_reject_rate:
        return 0
    log.error(
        f"{counts['failures']} of {tried} items failed ({rate:.1%}, more than the {max_reject_rate:.1%} of "
        "--max-reject-rate); the tables are written, reasons are in rejects/"
    )
    return 1


def summary(run: Mapping[str, Any], uri: str) -> str:
    """Summary at the end of a run: hours, labels, rejects, and how to use the tables."""
    return _of_labels(run, uri) if run["config"].get("labels") else _of_embeddings(run, uri)


def _of_labels(run: Mapping[str, Any], uri: str) -> str:
    counts = run["counts"]
    lines = [hours(counts), *limit_lines(run), *label_lines(counts), *prior_lines(run)]
    lines += [*reject_lines(counts), *memory_lines(run), *repetition_lines(run), *model_lines(run["models"])]
    look = f"import pandas as pd; print(pd.read_parquet('{uri}/segments').iloc[:, :5])"
    lines += [
        f"tables: {uri}/segments  recordings  rejects   run: {uri}/{RUN}",
        f'look:   python -c "{look}"',
    ]
    return "\n".join(lines)


def _of_embeddings(run: Mapping[str, Any], uri: str) -> str:
    counts = run["counts"]
    lines = [hours(counts), *limit_lines(run), *reject_lines(counts), *memory_lines(run)]
    alms = {key: facts for key, facts in run["models"].items() if kind_of(key) == "alm"}
    for key, facts in alms.items():
        effects = repetition_of_audio(run["effective_repetition"][key])
        lines += [f"{facts['model']}: {line}" if len(alms) > 1 else line for line in effects]
    if alms:
        copies = sum(len(facts["audio_repeats"]) for facts in alms.values())
        lines.append(
            f"{counts['encoder_inputs']:,} distinct inputs for {counts['segments']:,} segments × "
            f"{copies} audio repeats"
        )
    lines += [
        f"tables: {uri}/encoded  recordings  rejects   run: {uri}/{RUN}",
        f"label:  zsfuse score --embeddings {uri} --output labels",
    ]
    return "\n".join(lines)


def plural(number: int, one: str, more: str = "") -> str:
    """A number with its noun: 1 recording, 2 recordings."""
    return f"{number:,} {one if number == 1 else more or f'{one}s'}"


def hours(counts: Mapping[str, Any]) -> str:
    """Hours and numbers of recordings and segments."""
    return (
        f"{counts['audio_hours']:.2f} h of audio in {plural(counts['recordings'], 'recording')}, "
        f"{counts['speech_hours']:.2f} h of speech in {plural(counts['segments'], 'segment')}"
    )


def limit_lines(run: Mapping[str, Any]) -> list[str]:
    """A line on what --limit-hours has left for later."""
    if not (limit := run.get("limit")):
        return []
    return [
        f"limited to the first {limit['hours']:.2f} of {limit['of_hours']:.2f} h (--limit-hours); the same "
        "command without it continues"
    ]


def label_lines(counts: Mapping[str, Any]) -> list[str]:
    """The share of speech time of each label, the largest first, and the median confidence."""
    median = counts.get("median_confidence", {})
    shares = [
        f"{name} {share:.0%}" + (f" ({median[name]:.2f})" if name in median else "")
        for name, share in _largest(counts["label_shares"])
    ]
    line = f"labels by speech time (median confidence): {', '.join(shares)}"
    if (outside := counts.get("specialist_outside", 0.0)) > 0.005:
        line += f"; outside the label set: {outside:.0%} of the specialist's probability"
    return [line]


def one_sided(counts: Mapping[str, Any]) -> str | None:
    """A warning if nearly all of the speech has one label, else None."""
    name, share = max(counts["label_shares"].items(), key=lambda item: item[1], default=("", 0.0))
    if share <= ONE_SIDED or name == UNSURE:
        return None
    return (
        f"warning: {share:.0%} of the speech is labelled {name}; listen to a few segments before relying on "
        "it: models often give one label to all speech that is unlike their training data"
    )


def model_lines(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line on the training data and licences of the models, as far as their model cards state them."""
    parts = []
    for facts in models.values():
        data = ", ".join(facts.get("trained_on", ())) or "data not named in its model card"
        parts.append(f"{facts['model']} was trained on {data} (licence: {facts['licence'] or 'not stated'})")
    return ["models: " + "; ".join(parts)] if parts else []


def reject_lines(counts: Mapping[str, Any]) -> list[str]:
    """Numbers of rejects by reason, the most common first, and of recordings whose audio was altered."""
    reasons = ", ".join(f"{n} {reason}" for reason, n in _largest(counts["rejects"]))
    notes = [f"note: {plural(n, 'recording')}: {note}" for note, n in _largest(counts.get("audio_notes", {}))]
    return [f"rejects: {reasons}", *notes] if reasons else notes


def memory_lines(run: Mapping[str, Any]) -> list[str]:
    """A line on batches that did not fit into the memory of a GPU, if there were any."""
    halved = run.get("time", {}).get("gpu_batches_halved", 0)
    if not halved:
        return []
    return [
        f"{plural(halved, 'batch', 'batches')} did not fit into the memory of the GPU and ran in halves; "
        "a lower --batch-s avoids that"
    ]


def repetition_lines(run: Mapping[str, Any]) -> list[str]:
    """The effect of amplification on the audio and the prompts."""
    lines = repetition_of_audio(run.get("effective_repetition", {}))
    for b, cut in run["models"].get("alm", {}).get("prompts_truncated", {}).items():
        if cut:
            lines.append(f"text × {b}: {cut} prompts exceeded the model's maximum length and were truncated")
    return lines


def repetition_of_audio(effective: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The effect of repeating the audio."""
    names = {
        "same": "same input as one copy",
        "fewer": "fewer copies",
        "cropped": "cropped",
        "more": "more copies",
    }
    lines = []
    for a, effects in effective.items():
        total = sum(effects.values())
        if a != "1" and total:
            shares = ", ".join(f"{names[name]} {n / total:.0%}" for name, n in effects.items() if n)
            lines.append(f"audio × {a}: {shares}")
    return lines


def _largest(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(values.items(), key=lambda item: -item[1])
