"""One tuning from start to end: labelled clips → one pass over the audio → search → choice."""

import hashlib
import logging
import time
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from zsfuse_ray.config.options import recorded
from zsfuse_ray.config.tune import OPERATIONAL, TuneConfig
from zsfuse_ray.corpora.clips import label_set
from zsfuse_ray.experiments.clips import EncodedTable, models_of, table_identity
from zsfuse_ray.experiments.evidence import Evidence
from zsfuse_ray.experiments.heads import fitted_heads
from zsfuse_ray.experiments.seen import seen_in_training
from zsfuse_ray.experiments.settings import Setting
from zsfuse_ray.experiments.tune.assess import assess
from zsfuse_ray.experiments.tune.choice import Candidates, choose
from zsfuse_ray.experiments.tune.configurations import distinct_settings
from zsfuse_ray.experiments.tune.curves import amplification_table, contributions, weight_curve
from zsfuse_ray.experiments.tune.sources import (
    CLIPS,
    PLAN,
    choosable,
    encode_once,
    evidence_of,
    templates_and_models,
)
from zsfuse_ray.experiments.tune.trials import BEST, LOGS, TRIALS, file_of, search_blocks
from zsfuse_ray.experiments.tune.written import written
from zsfuse_ray.method.search import EXHAUSTIVE
from zsfuse_ray.runs import cluster
from zsfuse_ray.runs.folder import REJECTS, Output
from zsfuse_ray.runs.lock import holds_output
from zsfuse_ray.runs.ownership import claim
from zsfuse_ray.runs.provenance import git_revision, versions
from zsfuse_ray.runs.result import Result

log = logging.getLogger(__name__)

TUNE, TUNED = "tune.json", "tuned.yaml"
OURS = (TUNE, TUNED, PLAN, CLIPS, "tune.md", "figures", TRIALS, BEST, LOGS, REJECTS)


@holds_output
def tune(config: TuneConfig, preset: str) -> Result:
    """Tune and write everything except the page and its figures; the result's record is tune.json.

    An interrupted tuning resumes; a complete one returns its record. InputError, before any model is loaded,
    for invalid clips or output.
    """
    out = Output.open(config.output)
    clips, table = choosable(config)
    decides = _decides(config, clips, table)
    earlier = claim(out, record=PLAN, what="tuning", ours=OURS, decides=decides, overwrite=config.overwrite)
    if earlier is not None and (done := out.read_json(TUNE)) is not None:
        log.info(f"{out.uri} is complete; nothing to do")
        return Result(out, done)
    names = models_of(config, table, every=True)
    heads = fitted_heads(config, names, table)
    own_ray = cluster.connect(config.ray_address, config.dashboard)
    labels = label_set(clips)
    text, models, readouts = templates_and_models(config, labels, names, table, heads)
    plan = {"versions": versions(), "config": decides}
    if earlier is None:  # delete and write only after all checks of user input
        for name in OURS:
            out.delete(name)
        out.write_json(PLAN, plan)
    encoded = clips
    if table is None:
        encoded = encode_once(config, clips, out, plan, own_ray, vectors=bool(readouts or heads))
    evidence = evidence_of(config, encoded, table, labels, text, models, readouts, heads)
    # before the search, so that fusion mixes calibrated posteriors
    evidence = evidence.calibrated(np.arange(len(evidence.targets)))
    settings = distinct_settings(evidence, config)
    candidates, search = _search(config, evidence, settings, out, own_ray)
    assessed = assess(evidence, candidates, config)
    best = choose(candidates, evidence.n_folds, "best").configuration
    trial = file_of(TRIALS, settings.index(best.setting), best.setting)
    result = {
        "versions": versions(),
        "git": git_revision(),
        "preset": preset,
        "config": recorded(config),
        "models": models,
        "normalised": sorted(readouts),
        "seen_in_training": seen_in_training(clips["corpus"].unique().to_pylist(), models),
        "labels": list(labels),
        "clips": {"encoded": len(encoded), "rejected": len(clips) - len(encoded), "folds": evidence.n_folds},
        "search": search,
        **assessed,
        "tuned": written(evidence, candidates, config, assessed, names),
        "best_in_sample": best.record(config.templates),
        "amplification": amplification_table(candidates) | _without_effect(config, settings),
        "weight_curve": weight_curve(evidence, config, best),
        "prompts": contributions(out.read_table(trial), config.templates),
    }
    head = f"# By zsfuse tune, for score and evaluate: --tuned {TUNED}\n# {result['tuned']['verdict']}\n"
    options = yaml.safe_dump(result["tuned"]["options"], sort_keys=False, allow_unicode=True)
    out.write_bytes(TUNED, (head + options).encode())
    out.write_json(TUNE, result)
    return Result(out, result)


def _decides(config: TuneConfig, clips: pa.Table, table: EncodedTable | None) -> dict[str, Any]:
    """The options and a hash of the clips, which together determine the results."""
    names = ["uri", "start_s", "end_s", "emotion", "speaker", "corpus", "fold"]
    content = repr(clips.select(names).to_pydict()).encode()
    if table is not None:
        content += table_identity(table)
    options = {key: value for key, value in recorded(config).items() if key not in OPERATIONAL}
    return options | {"clips": hashlib.sha256(content).hexdigest()[:12]}


def _search(
    config: TuneConfig, evidence: Evidence, settings: list[Setting], out: Output, own_ray: bool
) -> tuple[Candidates, dict[str, Any]]:
    """Search all blocks; returns the candidates and the entry "search" of tune.json.

    RuntimeError if every block failed.
    """
    exhaustive = evidence.n_prompts <= EXHAUSTIVE
    n_subsets = f"{2**evidence.n_prompts - 1:,}" if exhaustive else "a part of all"
    log.info(f"searching {len(settings)} blocks of {n_subsets} subsets")
    started = time.perf_counter()
    at_once = cluster.cores() if own_ray else None
    summaries, failed = search_blocks(evidence, settings, config.objective, out, at_once)
    took = time.perf_counter() - started
    for n, why in failed.items():
        log.warning(f"block {settings[n].name} failed and is left out: {why}")
    if not summaries:
        raise RuntimeError(f"every block failed; first error: {next(iter(failed.values()))}")
    weights = np.linspace(0, 1, next(iter(summaries.values())).score.shape[2])
    if not evidence.specialists:
        weights = np.ones(1)
    candidates = Candidates.of([settings[n] for n in summaries], weights, list(summaries.values()))
    return candidates, {
        "configurations": sum(summary.tried for summary in summaries.values()),
        "blocks": len(settings),
        "failed": {settings[n].name: why for n, why in failed.items()},
        "exhaustive": exhaustive,
        "seconds": took,
    }


def _without_effect(config: TuneConfig, settings: list[Setting]) -> dict[str, list[int]]:
    """No-op copies: the ALM's input equals that of fewer copies, so they were not searched."""
    return {
        "no_effect_a": sorted({*config.audio_repeats} - {setting.a for setting in settings}),
        "no_effect_b": sorted({*config.text_repeats} - {setting.text.b for setting in settings}),
    }
