"""What the recipe of the shipped models reaches: held-out speakers and left-out corpora, several seeds.

Everything is computed from the clips' vectors. Heads and choices see neither the test speakers nor, for a
left-out corpus, any of its clips; ASED is in no training.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dev.mini.choices import MODES, Choice, Outputs, choose, crossed, outputs, speakers_of
from dev.mini.heads import NEUTRAL, NEUTRAL_SHARE, Clips, Heads, fit
from zsfuse_ray.method.metrics import ece, nll, ua, wa

DRAWS = 20  # of skewed archives
FOLDS_LEFT = 4  # of cross-validation where a corpus is left out; two corpora remain


def of_seed(
    clips: Clips,
    is_test: NDArray[np.bool_],
    names: Sequence[str],
    untrained: Sequence[str],
    captions: Mapping[str, NDArray[np.float32]],
    bank: NDArray[np.float32],
    hidden: int,
    seed: int,
) -> dict[str, Any]:
    """Return the figures of one seed.

    clips: of all corpora; is_test: (n,), clips of test speakers; names: of the corpora, by their numbers in
    clips; untrained: corpora that are measured only.
    """
    trained = ~np.isin(clips.corpora, [names.index(name) for name in untrained])
    found: dict[str, Any] = {"held out": {}, "left out": {}}
    for left in (None, *(name for name in names if name not in untrained)):
        own = trained & (clips.corpora != names.index(left)) if left else trained
        training = clips.of(own & ~is_test)
        found_on = crossed(training, captions, bank, hidden, seed, *([FOLDS_LEFT] if left else ()))
        choice = choose(training, found_on)
        heads = fit(training, captions, hidden, seed)
        if not left:
            found["choice"] = asdict(choice)
        for name in [left] if left else names:
            is_left = bool(left) or name in untrained
            chosen = (clips.corpora == names.index(name)) & (is_left | is_test)
            place = "left out" if is_left else "held out"
            found[place][name] = _figures(clips.of(chosen), heads, choice, bank)
    return found


def _figures(part: Clips, heads: Heads, choice: Choice, bank: NDArray[np.float32]) -> dict[str, Any]:
    """Figures of clips of one corpus by mode, and on skewed archives of them."""
    found: dict[str, Any] = {}
    for mode in MODES:
        groups = speakers_of(part) if mode == "speaker" else None
        found[mode] = _measured(part, outputs(heads, part, bank, groups), choice)
    return found | {"skewed": _skewed(part, heads, choice, bank)}


def _measured(part: Clips, values: Outputs, choice: Choice) -> dict[str, float]:
    possible = part.possible
    plain = Choice(choice.weight, 1.0, 1.0, 1.0)
    systems = {
        "specialist": values.specialist(possible, choice.specialist_temperature),
        "alm": values.alm(possible, choice.temperature),
        "zs_fuse": values.fused(possible, choice),
    }
    n = len(part.labels)
    found = {f"ua {name}": ua(part.targets, p.argmax(axis=1), n) for name, p in systems.items()}
    found |= {f"ece {name}": ece(p, part.targets) for name, p in systems.items()}
    found["ece before"] = ece(values.fused(possible, plain), part.targets)
    return found | {"nll zs_fuse": nll(systems["zs_fuse"], part.targets)}


def _skewed(part: Clips, heads: Heads, choice: Choice, bank: NDArray[np.float32]) -> dict[str, float]:
    """UA and WA on archives of NEUTRAL_SHARE neutral clips, mean over draws.

    By mode of normalisation; and, normalised by speaker, with a uniform prior and with the archive's shares.
    """
    rng = np.random.default_rng(0)
    found: list[dict[str, float]] = []
    for _ in range(DRAWS):
        some = part.of(_mostly_neutral(part, rng))
        possible = part.possible[: len(some.targets)]
        uniform = possible[0] / possible[0].sum()
        shares = np.bincount(some.targets, minlength=len(part.labels)) / len(some.targets)
        none, speaker = (outputs(heads, some, bank, groups) for groups in (None, speakers_of(some)))
        posteriors = {"none": none.fused(possible, choice), "speaker": speaker.fused(possible, choice)}
        for name, wanted in (("uniform", uniform), ("shares", shares)):
            posteriors[name] = speaker.fused(possible, choice, wanted)
        found.append({})
        for name, p in posteriors.items():
            guesses = p.argmax(axis=1)
            found[-1][name] = ua(some.targets, guesses, len(part.labels))
            found[-1][f"{name} wa"] = wa(some.targets, guesses, len(part.labels))
    return {name: float(np.mean([draw[name] for draw in found])) for name in found[0]}


def _mostly_neutral(part: Clips, rng: np.random.Generator) -> NDArray[np.int64]:
    """Every neutral clip of each speaker, and as many others as make NEUTRAL_SHARE of them neutral."""
    neutral = part.targets == part.labels.index(NEUTRAL)
    kept = []
    for speaker in np.unique(part.speakers):
        own, others = (np.flatnonzero((part.speakers == speaker) & which) for which in (neutral, ~neutral))
        n = max(1, round(len(own) * (1 - NEUTRAL_SHARE) / NEUTRAL_SHARE)) if len(own) else 0
        kept += [own, rng.choice(others, min(n, len(others)), replace=False)]
    return np.concatenate(kept)


def write(found: Mapping[int, Mapping[str, Any]], folder: Path) -> str:
    """Write evidence.json; returns its tables as Markdown. found: figures by seed, see `of_seed`."""
    (folder / "evidence.json").write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
    return "\n".join(tables(found))


def tables(found: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """Return Markdown tables: medians over seeds in %, with minimum and maximum."""
    seeds = [*found.values()]
    lines = ["| clips | labels by | normalised | specialist | ALM | ZS-Fuse | ECE before | ECE |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    columns = ("ua specialist", "ua alm", "ua zs_fuse", "ece before", "ece zs_fuse")
    for place in ("held out", "left out"):
        for corpus in seeds[0][place]:
            for mode in MODES:
                cells = [_cell([seed[place][corpus][mode][name] for seed in seeds]) for name in columns]
                lines.append(f"| {corpus} | {place} | {mode} | {' | '.join(cells)} |")
        for mode in MODES if place == "held out" else ():
            each = [
                [float(np.mean([of[mode][name] for of in seed[place].values()])) for seed in seeds]
                for name in columns
            ]
            lines.append(f"| mean | {place} | {mode} | {' | '.join(map(_cell, each))} |")
    if "words" in seeds[0]:
        lines += ["", "| words, dev speakers | UA of the ALM |", "|---|---|"]
        lines += [
            f"| {kind} | {_cell([seed['words'][kind] for seed in seeds])} |" for kind in seeds[0]["words"]
        ]
    names = ("none", "speaker", "none wa", "speaker wa", "uniform", "uniform wa", "shares", "shares wa")
    lines += ["", f"| 80 % neutral | labels by | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for place in ("held out", "left out"):
        for corpus in seeds[0][place]:
            cells = [_cell([seed[place][corpus]["skewed"][name] for seed in seeds]) for name in names]
            lines.append(f"| {corpus} | {place} | {' | '.join(cells)} |")
    return lines


def _cell(values: Sequence[float]) -> str:
    low, middle, high = (100 * float(f(values)) for f in (np.min, np.median, np.max))
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"
