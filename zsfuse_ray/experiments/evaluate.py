"""One evaluation from start to end: labelled clips → one pass over the audio → choices → figures."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.config.options import build, recorded, resolved
from zsfuse_ray.corpora.clips import label_set
from zsfuse_ray.corpora.registry import licences
from zsfuse_ray.errors import InputError
from zsfuse_ray.experiments.choices import Fusion
from zsfuse_ray.experiments.clips import encode, kind_of, labelled_clips, models_of
from zsfuse_ray.experiments.columns import REJECTS as REJECTED
from zsfuse_ray.experiments.evidence import Evidence, Text
from zsfuse_ray.experiments.figures import figures, mean_over_corpora
from zsfuse_ray.experiments.gather import gather
from zsfuse_ray.experiments.heads import fitted_heads
from zsfuse_ray.experiments.prompts import embedded_prompts
from zsfuse_ray.experiments.protocol import Protocol, protocol
from zsfuse_ray.experiments.seen import seen_in_training
from zsfuse_ray.experiments.settings import Setting
from zsfuse_ray.experiments.systems import Outcome, run_round
from zsfuse_ray.runs import cluster
from zsfuse_ray.runs.folder import REJECTS, Output
from zsfuse_ray.runs.lock import holds_output
from zsfuse_ray.runs.ownership import claim
from zsfuse_ray.runs.provenance import git_revision, versions
from zsfuse_ray.runs.result import Result

log = logging.getLogger(__name__)

EVALUATION, PREDICTIONS = "evaluation.json", "predictions.parquet"
OURS = (EVALUATION, PREDICTIONS, "evaluation.md", "figures", REJECTS)


@holds_output
def evaluate(config: EvaluateConfig, preset: str) -> Result:
    """Evaluate and write evaluation.json, predictions and rejects; the result's record is evaluation.json.

    InputError, before any model is loaded, for invalid clips, splits or output.
    """
    out = Output.open(config.output)
    claim(out, record=EVALUATION, what="evaluation", ours=OURS, decides=None, overwrite=config.overwrite)
    clips, table = labelled_clips(config)
    label_sets = {corpus: label_set(_of(clips, corpus)) for corpus in clips["corpus"].unique().to_pylist()}
    for corpus in label_sets:  # fail before hours of encoding
        protocol(_of(clips, corpus), corpus, config.folds, config.splits)
    names = models_of(config, table)
    used = {"alm": "none", "specialist": "none"} | {kind_of(key): name for key, name in names.items()}
    config = build(EvaluateConfig, resolved(config) | used)
    heads = fitted_heads(config, names, table)
    own_ray = cluster.connect(config.ray_address, config.dashboard)
    forms = [(config.words, config.separator)]
    text, models, readouts = embedded_prompts(config, names, label_sets, table, forms, heads)
    seen = seen_in_training(label_sets, models)
    if table is not None:
        encoded, rejects = clips, REJECTED.empty_table()
        log.info("--embeddings: the SVM baseline is left out, as it needs the audio")
    else:
        encoded, rejects = encode(clips, config, own_ray, log_mel=True, vectors=bool(readouts or heads))

    tables, draws, predictions = {}, {}, []
    for n, (corpus, labels) in enumerate(label_sets.items()):
        part = _of(encoded, corpus)
        if not len(part):
            first = _of(rejects, corpus)["message"][0].as_py()
            raise InputError(f"{corpus}: none of its clips could be read; first error: {first}")
        plan = protocol(part, corpus, config.folds, config.splits)
        banks = {key: of_corpora[corpus] for key, of_corpora in text.items()}
        evidence = gather(part, table, labels, config.audio_repeats, banks, models, None, readouts, heads)
        tested = _run_rounds(evidence, plan, config)
        tables[corpus], draws[corpus] = figures(evidence, plan, tested, config.resamples, seed=n)
        lost = len(_of(clips, corpus)) - len(part)
        tables[corpus]["protocol"] |= {
            "encoded": len(part),
            "rejected": lost,
            "licence": licences().get(corpus),
        }
        predictions.append(_prediction_rows(part, labels, plan, tested))
    result = {
        "versions": versions(),
        "git": git_revision(),
        "preset": preset,
        "config": recorded(config),
        "models": {kind_of(key): card for key, card in models.items()},
        "normalised": sorted(readouts),
        "seen_in_training": seen,
        "templates": list(config.templates),
        "corpora": tables,
        "mean": mean_over_corpora(tables, draws),
        "rejects": dict(Counter(rejects["reason"].to_pylist())),
    }
    for name in OURS:
        out.delete(name)
    out.write_table(f"{REJECTS}/rejects.parquet", rejects)
    out.write_table(PREDICTIONS, pa.concat_tables(predictions, promote_options="default"))
    out.write_json(EVALUATION, result)
    return Result(out, result)


def _run_rounds(evidence: Evidence, plan: Protocol, config: EvaluateConfig) -> list[Outcome]:
    """Run the rounds in parallel: fitting the SVM takes most of the time."""
    shared, given = ray.put(evidence), _given(config, evidence)
    work: Any = ray.remote(num_cpus=1)(run_round)  # Ray's type stubs lack optional arguments
    return ray.get([work.remote(shared, r, config.ensemble, config.objective, given) for r in plan.rounds])


def _given(config: EvaluateConfig, evidence: Evidence) -> Fusion | None:
    """The fusion with the user's --weight, measured as score would apply it."""
    if config.weight is None:
        return None
    text = Text(max(config.text_repeats), config.separator, config.words)
    models = {"alm": next(iter(evidence.alms)), "specialist": next(iter(evidence.specialists))}
    how = (max(config.audio_repeats), text, config.ensemble, config.fusion, config.temperature)
    temperatures = (config.specialist_temperature, config.fused_temperature)
    return Fusion(Setting(*how, **models), config.weight, *temperatures)


def _of(clips: pa.Table, corpus: str | None) -> pa.Table:
    return clips.filter(pa.array([name == corpus for name in clips["corpus"].to_pylist()], pa.bool_()))


def _prediction_rows(
    part: pa.Table, labels: Sequence[str], plan: Protocol, tested: Sequence[Outcome]
) -> pa.Table:
    """One row per test clip: its metadata, its round, and each system's posterior over its corpus' labels."""
    rows = np.concatenate([r.test for r in plan.rounds])
    table = part.select(["uri", "start_s", "end_s", "corpus", "speaker", "emotion"]).take(pa.array(rows))
    rounds = [n for n, r in enumerate(plan.rounds, start=1) for _ in r.test]
    table = table.append_column("round", pa.array(rounds, pa.int32()))
    table = table.append_column("labels", pa.array([list(labels)] * len(rows)))
    for name in tested[0].posteriors:
        if len(tested[0].posteriors[name]) == 1:  # not SINGLE_MEAN
            values = np.concatenate([done.posteriors[name][0] for done in tested])
            table = table.append_column(name, pa.array(values.tolist(), pa.list_(pa.float64())))
    return table
