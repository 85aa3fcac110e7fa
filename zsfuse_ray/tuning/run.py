"""One tuning from start to end: labelled clips → one pass over the audio → every configuration → a choice."""

import hashlib
import json
import sys
import time
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from zsfuse_ray.archive.embedding import clips_verdict
from zsfuse_ray.archive.embeddings import EmbeddingTable
from zsfuse_ray.config.options import recorded
from zsfuse_ray.config.tune import OPERATIONAL, TuneConfig
from zsfuse_ray.corpora.clips import label_set
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.search import EXHAUSTIVE, members
from zsfuse_ray.runs import cluster
from zsfuse_ray.runs.folder import REJECTS, Output
from zsfuse_ray.runs.provenance import git_revision, versions
from zsfuse_ray.tuning.assess import assess, final, weight_curve
from zsfuse_ray.tuning.choice import Candidates, choose
from zsfuse_ray.tuning.evidence import spaces
from zsfuse_ray.tuning.sources import CLIPS, PLAN, choosable, gather, hear, models_of, prompts
from zsfuse_ray.tuning.trials import BEST, LOGS, TRIALS, file_of, search_blocks

TUNE, TUNED = "tune.json", "tuned.yaml"
OURS = (TUNE, TUNED, PLAN, CLIPS, "tune.md", "figures", TRIALS, BEST, LOGS, REJECTS)


def tune(config: TuneConfig, preset: str) -> tuple[Output, dict[str, Any]]:
    """Tune and write everything but the page and its figures; returns the folder and tune.json's content.

    Run again after a stop of any kind it goes on; after the end it returns what is there. InputError, before
    any model is loaded, for what is wrong with the clips or the output.
    """
    out = Output.open(config.output)
    clips, table = choosable(config)
    plan = _plan(config, clips, table)
    goes_on = _goes_on(out, plan, config)
    if goes_on and (done := out.read_json(TUNE)) is not None:
        print(f"{out.uri} is finished: nothing to do", file=sys.stderr)
        return out, done
    names = models_of(config, table)
    own_ray = cluster.connect(config.ray_address)
    labels = label_set(clips)
    text, models = prompts(config, labels, names, table)
    if not goes_on:  # nothing is deleted or written before everything that a user can get wrong is right
        for name in OURS:
            out.delete(name)
        out.write_json(PLAN, plan)
    heard = clips if table is not None else hear(config, clips, out, plan, own_ray)
    evidence = gather(config, heard, labels, text, models, table)
    blocks = spaces(evidence, config)
    n_subsets = f"{2**evidence.n_prompts - 1:,}" if evidence.n_prompts <= EXHAUSTIVE else "some of all"
    print(f"searching {len(blocks)} blocks of {n_subsets} subsets", file=sys.stderr)
    started = time.perf_counter()
    found, failed = search_blocks(evidence, blocks, out, cluster.cores() if own_ray else None)
    took = time.perf_counter() - started
    for n, why in failed.items():
        print(f"block {blocks[n].name} failed and is left out: {why}", file=sys.stderr)
    if not found:
        raise RuntimeError(f"every block failed; the first: {next(iter(failed.values()))}")
    weights = np.linspace(0, 1, next(iter(found.values())).score.shape[2])
    if not evidence.specialists:
        weights = np.ones(1)
    candidates = Candidates.of([blocks[n] for n in found], weights, list(found.values()))
    assessed = assess(evidence, candidates, config)
    tried = sum(summary.tried for summary in found.values())
    best = choose(candidates, evidence.n_folds, "best").configuration
    place = next(n for n in found if blocks[n] == best.space)
    result = {
        "versions": versions(),
        "git": git_revision(),
        "preset": preset,
        "config": recorded(config),
        "models": models,
        "labels": list(labels),
        "clips": {"heard": len(heard), "rejected": len(clips) - len(heard), "folds": evidence.n_folds},
        "search": {
            "configurations": tried,
            "blocks": len(blocks),
            "failed": {blocks[n].name: why for n, why in failed.items()},
            "exhaustive": evidence.n_prompts <= EXHAUSTIVE,
            "seconds": took,
        },
        **assessed,
        "tuned": final(evidence, candidates, config, assessed, names),
        "best_in_sample": best.about(config.templates),
        "amplification": amplification_table(candidates)
        | {
            # copies by which the ALM hears or reads nothing else than with fewer, and which were not searched
            "no_effect_a": sorted({*config.audio_repeats} - {space.a for space in blocks}),
            "no_effect_b": sorted({*config.text_repeats} - {space.text.b for space in blocks}),
        },
        "weight_curve": weight_curve(evidence, config, best),
        "prompts": contributions(out.read_table(file_of(TRIALS, place, best.space)), config.templates),
    }
    about = f"# Of jobs/tune.py; for score and evaluate: --tuned {TUNED}\n# {result['tuned']['verdict']}\n"
    options = yaml.safe_dump(result["tuned"]["options"], sort_keys=False, allow_unicode=True)
    out.write_bytes(TUNED, (about + options).encode())
    out.write_json(TUNE, result)
    return out, result


def verdict(config: TuneConfig, result: dict[str, Any]) -> int:
    """Exit code: 1, with a line on stderr, where more clips could not be read than is allowed."""
    heard, lost = result["clips"]["heard"], result["clips"]["rejected"]
    return clips_verdict(heard, lost, config.max_reject_rate)


def _plan(config: TuneConfig, clips: pa.Table, table: EmbeddingTable | None) -> dict[str, Any]:
    names = ["uri", "start_s", "end_s", "emotion", "speaker", "corpus", "fold"]
    content = repr(clips.select(names).to_pydict()).encode()
    if table is not None:  # one made anew in the same place is another one
        content += json.dumps(table.stored.run, sort_keys=True).encode()
    options = {key: value for key, value in recorded(config).items() if key not in OPERATIONAL}
    return {"versions": versions(), "options": options, "clips": hashlib.sha256(content).hexdigest()}


def _goes_on(out: Output, plan: dict[str, Any], config: TuneConfig) -> bool:
    """Whether the folder holds this tuning, begun or finished; InputError where it holds anything else."""
    there = out.read_json(PLAN)
    if there is None:
        if taken := next((name for name in OURS if out.exists(name)), None):
            raise InputError(f"{out.uri}/{taken} is there already and of no tuning; use another --output")
        return False
    if config.overwrite:
        return False
    differs = [key for key, value in plan["options"].items() if there.get("options", {}).get(key) != value]
    if there.get("clips") != plan["clips"] and not differs:
        differs = ["clips"]
    if differs:
        raise InputError(
            f"{out.uri} holds another tuning (different: {', '.join(differs)}); use another --output or "
            "--overwrite"
        )
    return True


def amplification_table(found: Candidates) -> dict[str, Any]:
    """Best score over copies of audio (a) and text (b), in-sample: of the ALM alone, and fused."""
    a = sorted({space.a for space in found.spaces})
    b = sorted({space.text.b for space in found.spaces})
    table: dict[str, Any] = {"a": a, "b": b}
    of_block = {"alm": found.score[:, -1, :, -1].max(axis=1), "fused": found.score[:, -1].max(axis=(1, 2))}
    for name, scores in of_block.items():
        best = np.full((len(a), len(b)), -np.inf)
        for space, score in zip(found.spaces, scores, strict=True):
            place = a.index(space.a), b.index(space.text.b)
            best[place] = max(best[place], score)
        table[name] = best.tolist()
    return table


def contributions(subsets: pa.Table, templates: tuple[str, ...]) -> list[dict[str, Any]]:
    """By how much the mean score of the tried subsets with a template is above that of those without it."""
    has = members(subsets["subset"].to_numpy(), len(templates))
    rows = []
    for t, template in enumerate(templates):
        row: dict[str, Any] = {"template": template}
        for name, column in (("alm", "alm_score"), ("fused", "score")):
            scores = subsets[column].to_numpy()
            both = has[:, t].any() and not has[:, t].all()
            row[name] = float(scores[has[:, t]].mean() - scores[~has[:, t]].mean()) if both else None
        rows.append(row)
    return rows
