"""One evaluation from start to end: labelled clips → one pass over the audio → choices → figures."""

import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from zsfuse_ray.archive.embedding import REJECTS as REJECTED
from zsfuse_ray.archive.embedding import (
    check_models,
    clips_verdict,
    embed,
    embed_prompts,
    heard_before,
    labelled_segments,
)
from zsfuse_ray.archive.embeddings import EmbeddingTable, read_embeddings
from zsfuse_ray.archive.rescore import key_of
from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.config.models import OF_TABLE
from zsfuse_ray.config.options import build, recorded, resolved
from zsfuse_ray.corpora.clips import label_set, with_labels
from zsfuse_ray.corpora.load import load
from zsfuse_ray.corpora.registry import licences
from zsfuse_ray.errors import InputError
from zsfuse_ray.evaluation.figures import figures
from zsfuse_ray.evaluation.heard import Heard, heard_corpus
from zsfuse_ray.evaluation.protocol import Protocol, protocol
from zsfuse_ray.evaluation.systems import FUSED, NAMES, SPECIALIST, Outcome, run_round
from zsfuse_ray.method import metrics
from zsfuse_ray.method.labels import map_labels
from zsfuse_ray.models.about import Kind
from zsfuse_ray.runs import cluster
from zsfuse_ray.runs.folder import REJECTS, Output
from zsfuse_ray.runs.provenance import git_revision, versions

EVALUATION, PREDICTIONS = "evaluation.json", "predictions.parquet"
SAY_EVERY_S = 15.0
OURS = (EVALUATION, PREDICTIONS, "evaluation.md", "figures", REJECTS)


def evaluate(config: EvaluateConfig, preset: str) -> tuple[Output, dict[str, Any]]:
    """Evaluate and write the JSON table, predictions and rejects; returns the folder and the table.

    InputError, before any model is loaded, for what is wrong with the clips, the splits or the output.
    """
    out = _open(config)
    table, keys = None, {}
    if config.embeddings:
        table = read_embeddings(config.embeddings)
        clips = labelled_segments(table, config.splits)
        config, keys = _with_tables_models(config, table)
    else:
        clips = load(config.sources, config.splits)
    if config.labels:
        clips = with_labels(clips, config.labels)
    corpora = list(dict.fromkeys(clips["corpus"].to_pylist()))
    for corpus in corpora:  # what can be wrong with them is said before hours are spent
        protocol(_of(clips, corpus), corpus, config.folds, config.splits)
    check_models(config)
    own_ray = cluster.connect(config.ray_address)
    label_sets = {corpus: label_set(_of(clips, corpus)) for corpus in corpora}
    text, scale, models = embed_prompts(config, label_sets)
    if table is not None:
        _refuse_other_weights(table, keys, models)
    if SPECIALIST in models:
        for corpus, labels in label_sets.items():
            own = models[SPECIALIST]["labels"]
            if not map_labels(own, labels).any():
                raise InputError(
                    f"--specialist {config.specialist} knows none of {corpus}'s labels {', '.join(labels)}; "
                    f"its own are {', '.join(own)}"
                )
    if table is not None:
        heard, rejects = heard_before(clips, table, keys, config.audio_repeats), REJECTED.empty_table()
        print("from a table there is no SVM: it hears the audio itself", file=sys.stderr)
    else:
        print(f"hearing {len(clips):,} clips of {', '.join(corpora)}", file=sys.stderr)
        cores = cluster.cores() if own_ray else None
        pools = cluster.pools(config, ray.cluster_resources(), cluster.worker_nodes())
        told = _teller(len(clips))
        heard, rejects = embed(clips, config, pools, own_cores=cores, log_mel=True, told=told)
        print(f"heard {len(heard):,}, {len(clips) - len(heard)} could not be read", file=sys.stderr)

    tables, draws, predicted = {}, {}, []
    for corpus in corpora:
        part = _of(heard, corpus)
        if not len(part):
            raise InputError(
                f"{corpus}: none of its clips could be read; the first: {_first(rejects, corpus)}"
            )
        plan = protocol(part, corpus, config.folds, config.splits)
        seen = heard_corpus(part, label_sets[corpus], config, text.get(corpus), scale, models)
        tested = _run_rounds(seen, plan)
        tables[corpus], draws[corpus] = figures(
            seen, plan, tested, config.resamples, seed=corpora.index(corpus)
        )
        lost = len(_of(clips, corpus)) - len(part)
        tables[corpus]["protocol"] |= {
            "heard": len(part),
            "rejected": lost,
            "licence": licences().get(corpus),
        }
        predicted.append(_predictions(part, seen, plan, tested))
    result = {
        "versions": versions(),
        "git": git_revision(),
        "preset": preset,
        "config": recorded(config),
        "models": models,
        "templates": list(config.templates),
        "corpora": tables,
        "mean": _mean(tables, draws),
        "rejects": dict(Counter(rejects["reason"].to_pylist())),
    }
    for name in OURS:
        out.delete(name)
    out.write_table(f"{REJECTS}/rejects.parquet", rejects)
    out.write_table(PREDICTIONS, pa.concat_tables(predicted, promote_options="default"))
    out.write_json(EVALUATION, result)
    return out, result


def _with_tables_models(
    config: EvaluateConfig, table: EmbeddingTable
) -> tuple[EvaluateConfig, dict[str, str]]:
    """The configuration with the table's models, the first of each kind or those named; their names in it."""
    names, keys = {}, {}
    kinds: tuple[Kind, ...] = ("alm", "specialist")
    for kind in kinds:
        wanted = getattr(config, kind)
        key = key_of(kind, wanted, table.stored)
        if key is not None:
            keys[kind] = key
        names[kind] = wanted if wanted != OF_TABLE else table.models[key]["model"] if key else "none"
    if "alm" in keys:
        table.stored.places(keys["alm"], config.audio_repeats)
    return build(EvaluateConfig, resolved(config) | names), keys


def _refuse_other_weights(table: EmbeddingTable, keys: dict[str, str], models: dict[str, Any]) -> None:
    for kind, key in keys.items():
        if models[kind]["revision"] != (made := table.models[key]["revision"]):
            raise InputError(
                f"{table.stored.out.uri} was made with revision {made} of {models[kind]['model']}, which is "
                f"{models[kind]['revision']} now; embed with it first"
            )


def _teller(total: int) -> Callable[[int], None]:
    """Prints how many clips are done, every SAY_EVERY_S seconds."""
    last = [time.monotonic()]

    def tell(done: int) -> None:
        if time.monotonic() - last[0] >= SAY_EVERY_S:
            last[0] = time.monotonic()
            print(f"  {done:,} of {total:,} clips", file=sys.stderr, flush=True)

    return tell


def _run_rounds(heard: Heard, plan: Protocol) -> list[Outcome]:
    """The rounds side by side: fitting the SVM is what takes time."""
    here, work = ray.put(heard), ray.remote(num_cpus=1)(run_round)
    return ray.get([work.remote(here, r) for r in plan.rounds])


def verdict(config: EvaluateConfig, result: dict[str, Any]) -> int:
    """Exit code: 1, with a line on stderr, where more clips could not be read than is allowed."""
    heard = sum(table["protocol"]["heard"] for table in result["corpora"].values())
    lost = sum(table["protocol"]["rejected"] for table in result["corpora"].values())
    return clips_verdict(heard, lost, config.max_reject_rate)


def _open(config: EvaluateConfig) -> Output:
    """The output folder; InputError where it holds another evaluation, or files that no evaluation wrote."""
    out = Output.open(config.output)
    ours = out.read_json(EVALUATION) is not None
    if ours and not config.overwrite:
        raise InputError(f"{out.uri} holds an evaluation; use another --output or --overwrite")
    if not ours and (taken := next((name for name in OURS if out.exists(name)), None)):
        raise InputError(f"{out.uri}/{taken} is there already and of no evaluation; use another --output")
    return out


def _of(clips: pa.Table, corpus: str | None) -> pa.Table:
    return clips.filter(pa.array([name == corpus for name in clips["corpus"].to_pylist()], pa.bool_()))


def _first(rejects: pa.Table, corpus: str) -> str:
    return _of(rejects, corpus)["message"][0].as_py()


def _mean(tables: dict[str, Any], draws: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """UA averaged over the corpora, for systems that all have; speakers are drawn in each by itself."""
    common = [name for name in NAMES if all(name in table["systems"] for table in tables.values())]
    speakers = sum(table["protocol"]["test_speakers"] for table in tables.values())
    found: dict[str, Any] = {}
    for name in common:
        values = [table["systems"][name]["ua"]["value"] for table in tables.values()]
        found[name] = {"value": float(np.mean(values)), "low": None, "high": None}
        if all(name in drawn for drawn in draws.values()):
            mean = np.mean([drawn[name] for drawn in draws.values()], axis=0)
            found[name]["low"], found[name]["high"] = metrics.interval(mean, speakers)
    mean = {"ua": found}
    if FUSED in found and all(FUSED in drawn for drawn in draws.values()):
        gain = np.mean([drawn[FUSED] - drawn[SPECIALIST] for drawn in draws.values()], axis=0)
        low, high = metrics.interval(gain, speakers)
        value = found[FUSED]["value"] - found[SPECIALIST]["value"]
        mean["difference"] = {"value": value, "low": low, "high": high}
    return mean


def _predictions(part: pa.Table, heard: Heard, plan: Protocol, tested: list[Outcome]) -> pa.Table:
    """One row a test clip: what it is, its round, and each system's posterior over its corpus' labels."""
    rows = np.concatenate([r.test for r in plan.rounds])
    table = part.select(["uri", "start_s", "end_s", "corpus", "speaker", "emotion"]).take(pa.array(rows))
    rounds = [n for n, r in enumerate(plan.rounds, start=1) for _ in r.test]
    table = table.append_column("round", pa.array(rounds, pa.int32()))
    table = table.append_column("labels", pa.array([list(heard.labels)] * len(rows)))
    for name in tested[0].posteriors:
        if len(tested[0].posteriors[name]) == 1:  # not the mean over prompts
            values = np.concatenate([done.posteriors[name][0] for done in tested])
            table = table.append_column(name, pa.array(values.tolist(), pa.list_(pa.float64())))
    return table
