"""One tuning from start to end: labelled clips → one pass over the audio → every configuration → a choice."""

import hashlib
import sys
import time
from dataclasses import fields as fields_of
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import yaml

from zsfuse_ray.archive import cluster
from zsfuse_ray.archive.embedding import (
    LOGITS,
    check_models,
    clips_verdict,
    embed,
    embed_prompts,
    embedding_column,
    matrix,
)
from zsfuse_ray.archive.output import REJECTS, Output
from zsfuse_ray.archive.versions import git_revision, versions
from zsfuse_ray.audio.sources import redact
from zsfuse_ray.config.models import ModelOptions
from zsfuse_ray.config.options import resolved
from zsfuse_ray.config.tune import OPERATIONAL, TuneConfig
from zsfuse_ray.corpora.clips import label_set, with_labels
from zsfuse_ray.corpora.load import load
from zsfuse_ray.corpora.splits import folds
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.fusion import specialist_on_labels
from zsfuse_ray.method.labels import map_labels
from zsfuse_ray.method.search import EXHAUSTIVE, members
from zsfuse_ray.method.zeroshot import softmax
from zsfuse_ray.tuning.assess import assess, final, weight_curve
from zsfuse_ray.tuning.choice import Candidates, choose
from zsfuse_ray.tuning.evidence import Evidence, Text, spaces
from zsfuse_ray.tuning.trials import BEST, LOGS, TRIALS, file_of, search_blocks

TUNE, TUNED, PLAN, CLIPS = "tune.json", "tuned.yaml", "tune_plan.json", "clips.parquet"
OURS = (TUNE, TUNED, PLAN, CLIPS, "tune.md", "figures", TRIALS, BEST, LOGS, REJECTS)
_ALL = "all"


def tune(config: TuneConfig, preset: str) -> tuple[Output, dict[str, Any]]:
    """Tune and write everything but the page and its figures; returns the folder and tune.json's content.

    Run again after a stop of any kind it goes on; after the end it returns what is there. InputError, before
    any model is loaded, for what is wrong with the clips or the output.
    """
    out = Output.open(config.output)
    clips = _clips(config)
    plan = _plan(config, clips)
    goes_on = _goes_on(out, plan, config)
    if goes_on and (done := out.read_json(TUNE)) is not None:
        print(f"{out.uri} is finished: nothing to do", file=sys.stderr)
        return out, done
    check_models(config)
    own_ray = cluster.connect(config.ray_address)
    labels = label_set(clips)
    text, scale, models = _texts(config, labels)
    if not goes_on:  # nothing is deleted or written before everything that a user can get wrong is right
        for name in OURS:
            out.delete(name)
        out.write_json(PLAN, plan)
    heard = _hear(config, clips, out, plan, own_ray)
    evidence = _evidence(heard, labels, config, text, scale, models)
    blocks = spaces(evidence, config)
    n_subsets = f"{2**evidence.n_prompts - 1:,}" if evidence.n_prompts <= EXHAUSTIVE else "greedy"
    print(f"searching {len(blocks)} blocks of {n_subsets} subsets", file=sys.stderr)
    started = time.perf_counter()
    found, failed = search_blocks(evidence, blocks, out, cluster.cores() if own_ray else None)
    took = time.perf_counter() - started
    for n, why in failed.items():
        print(f"block {blocks[n].name} failed and is left out: {why}", file=sys.stderr)
    if not found:
        raise RuntimeError(f"every block failed; the first: {next(iter(failed.values()))}")
    weights = np.linspace(0, 1, next(iter(found.values())).score.shape[2])
    if evidence.specialist is None:
        weights = np.ones(1)
    candidates = Candidates.of([blocks[n] for n in found], weights, list(found.values()))
    table = assess(evidence, candidates, config)
    tried = sum(summary.tried for summary in found.values())
    best = choose(candidates, evidence.n_folds, "best").configuration
    place = next(n for n in found if blocks[n] == best.space)
    result = {
        "versions": versions(),
        "git": git_revision(),
        "preset": preset,
        "config": resolved(config) | {"input": [redact(uri) for uri in config.input]},
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
        **table,
        "tuned": final(evidence, candidates, config, table),
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


def _clips(config: TuneConfig) -> pa.Table:
    """The clips to choose on, each with its fold."""
    clips = load(config.sources, config.splits)
    if config.labels:
        clips = with_labels(clips, config.labels)
    split = clips["split"].to_pylist()
    if any(split):
        clips = clips.filter(pa.array([part in config.parts for part in split]))
        if not len(clips):
            raise InputError(
                f"no clip is in --parts {','.join(config.parts)}; the clips' own are {_parts(split)}"
            )
    if len(label_set(clips)) < 2:
        only = label_set(clips)[0]
        raise InputError(f'every clip to choose on is labelled "{only}"; at least two labels are needed')
    try:
        clips = folds(clips, config.folds)
    except InputError as error:
        hint = f" (of --parts {','.join(config.parts)})" if any(split) else ""
        raise InputError(f"{error}{hint}; lower --folds (at least 3), or name more clips") from None
    numbers = len(set(clips["fold"].to_pylist()))
    if numbers < 3:
        raise InputError(f"clips are in {numbers} folds; nested choice needs at least 3")
    return clips


def _parts(split: list[str | None]) -> str:
    return ", ".join(sorted({part for part in split if part}))


def _plan(config: TuneConfig, clips: pa.Table) -> dict[str, Any]:
    names = ["uri", "start_s", "end_s", "emotion", "speaker", "corpus", "fold"]
    content = repr(clips.select(names).to_pydict()).encode()
    options = {key: value for key, value in resolved(config).items() if key not in OPERATIONAL}
    options["input"] = [redact(uri) for uri in config.input]
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


def _texts(
    config: TuneConfig, labels: tuple[str, ...]
) -> tuple[dict[Text, np.ndarray], float, dict[str, Any]]:
    """Every template, b, separator and number of words as (T, C, D); the ALM's scale; about the models."""
    text, scale, models = {}, 1.0, {}
    for words, separator in product(config.word_counts, config.separators):
        asked = _with(config, words, separator)
        banks, scale, models = embed_prompts(asked, {_ALL: labels})
        for b, bank in zip(config.text_repeats, banks[_ALL], strict=True):
            # Without copies a separator separates nothing.
            if b > 1 or separator == config.separators[0]:
                of_template = bank.reshape(len(config.templates), words, len(labels), -1)
                text[Text(b, separator, words)] = of_template.mean(axis=1)
    if "specialist" in models and not map_labels(models["specialist"]["labels"], labels).any():
        own = ", ".join(models["specialist"]["labels"])
        raise InputError(
            f"--specialist {config.specialist} knows none of the labels {', '.join(labels)}; "
            f"its own are {own}"
        )
    return text, scale, models


def _with(config: TuneConfig, words: int, separator: str) -> ModelOptions:
    values = {field.name: getattr(config, field.name) for field in fields_of(ModelOptions)}
    return ModelOptions(**values | {"words": words, "separator": separator})


def _hear(config: TuneConfig, clips: pa.Table, out: Output, plan: dict[str, Any], own_ray: bool) -> pa.Table:
    """What the models say of the clips; kept, with what could not be read, for when the job goes on."""
    if (out.read_json(PLAN) or {}).get("heard"):
        return out.read_table(CLIPS)
    pools = cluster.pools(config, ray.cluster_resources(), cluster.worker_nodes())
    print(f"hearing {len(clips):,} clips", file=sys.stderr)
    heard, rejects = embed(clips, config, pools, own_cores=cluster.cores() if own_ray else None)
    print(f"heard {len(heard):,}, {len(clips) - len(heard)} could not be read", file=sys.stderr)
    if not len(heard):
        raise InputError(f"none of the clips could be read; the first: {rejects['message'][0].as_py()}")
    out.write_table(CLIPS, heard)
    out.write_table(f"{REJECTS}/rejects.parquet", rejects)
    out.write_json(PLAN, plan | {"heard": True})
    return heard


def _evidence(
    heard: pa.Table,
    labels: tuple[str, ...],
    config: TuneConfig,
    text: dict[Text, np.ndarray],
    scale: float,
    models: dict[str, Any],
) -> Evidence:
    specialist, inside = None, np.ones(len(labels), bool)
    if "specialist" in models:
        mapping = map_labels(models["specialist"]["labels"], labels)
        specialist = specialist_on_labels(softmax(matrix(heard, LOGITS)), mapping)
        inside = np.any(mapping, axis=0)
    numbers, fold = np.unique(heard["fold"].to_numpy(), return_inverse=True)
    targets = np.array([labels.index(name) for name in heard["emotion"].to_pylist()])
    if len(numbers) < 3 or len(set(targets)) < 2:
        raise InputError("the clips that could be read are of one label alone, or in fewer than 3 folds")
    who = zip(heard["corpus"].to_pylist(), heard["speaker"].to_pylist(), strict=True)
    return Evidence(
        labels=labels,
        targets=targets,
        speakers=np.array([f"{corpus}/{name}" if name else "" for corpus, name in who]),
        folds=fold,
        specialist=specialist,
        inside=inside,
        audio={a: matrix(heard, embedding_column(a)) for a in config.audio_repeats},
        text=text,
        scale=scale,
        objective=config.objective,
    )


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
