"""``zsfuse evaluate --protocol``: train and test in each fold of a protocol, resumable fold by fold."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from zsfuse_ray.config.evaluate import BY_FOLD_OPERATIONAL, EvaluateConfig
from zsfuse_ray.config.options import recorded
from zsfuse_ray.corpora.clips import label_set
from zsfuse_ray.corpora.registry import licences
from zsfuse_ray.errors import InputError
from zsfuse_ray.experiments.clips import (
    EncodedTable,
    encode,
    kind_of,
    labelled_clips,
    models_of,
    table_identity,
    vectors_of,
)
from zsfuse_ray.experiments.columns import REJECTS as REJECTED
from zsfuse_ray.experiments.evidence import Evidence
from zsfuse_ray.experiments.fold import record_of, run_fold, system_title
from zsfuse_ray.experiments.gather import gather
from zsfuse_ray.experiments.normalise import by_speaker
from zsfuse_ray.experiments.prompts import embedded_prompts
from zsfuse_ray.experiments.protocol import Protocol, Round, protocol
from zsfuse_ray.experiments.published import published
from zsfuse_ray.experiments.seen import seen_in_training
from zsfuse_ray.experiments.spread import spread
from zsfuse_ray.models.catalog import parse_spec, revision_of
from zsfuse_ray.runs import cluster
from zsfuse_ray.runs.folder import REJECTS, Output
from zsfuse_ray.runs.lock import holds_output
from zsfuse_ray.runs.ownership import claim
from zsfuse_ray.runs.provenance import git_revision, versions
from zsfuse_ray.runs.result import Result

log = logging.getLogger(__name__)

RUN, RESULT, CLIPS, FOLDS = "plan.json", "protocol.json", "clips.parquet", "folds"
OURS = (RUN, RESULT, CLIPS, FOLDS, "protocol.md", REJECTS)


@holds_output
def evaluate_by_fold(config: EvaluateConfig, preset: str) -> Result:
    """Train and test every fold and seed that the output lacks; the result's record is protocol.json.

    The clips are encoded once, and each fold is stored as soon as it is done. InputError, before any model is
    loaded, for invalid clips, folds or output.
    """
    assert config.protocol is not None
    if config.normalise == "auto":  # the default's own head is trained for it, a refitted one is not
        config = replace(config, normalise="auto" if config.refit == "none" else "none")
    out = Output.open(config.output)
    clips, table = labelled_clips(config, vectors=True)
    label_sets = {corpus: label_set(_of(clips, corpus)) for corpus in clips["corpus"].unique().to_pylist()}
    for corpus in label_sets:  # fail before hours of encoding
        _rounds(clips, corpus, config)
    names = models_of(config, table)
    decides = _decides(config, clips, table, names)
    earlier = claim(
        out, record=RUN, what="evaluation", ours=OURS, decides=decides, overwrite=config.overwrite
    )
    done = out.read_json(RESULT) if earlier is not None else None
    if done is not None and done["seeds"] == config.seeds:
        log.info(f"{out.uri} is complete; nothing to do")
        return Result(out, done)
    own_ray = cluster.connect(config.ray_address, config.dashboard)
    forms = [(config.words, config.separator)]
    text, models, readouts = embedded_prompts(config, names, label_sets, table, forms)
    _check_vectors(config, models)
    if earlier is None:  # delete and write only after all checks of user input
        for name in OURS:
            out.delete(name)
        out.write_json(RUN, {"versions": versions(), "config": decides})
    encoded = clips if table is not None else _encoded_once(config, clips, out, own_ray)

    corpora = {}
    for corpus, labels in label_sets.items():
        part = _of(encoded, corpus)
        if not len(part):
            raise InputError(f"{corpus}: none of its clips could be read")
        plan = _rounds(part, corpus, config)
        banks = {key: of_corpora[corpus] for key, of_corpora in text.items()}
        evidence = gather(part, table, labels, config.audio_repeats, banks, models, readouts=readouts)
        folds = _folds(evidence, _vectors(part, table, models, evidence, config), plan, config, out, corpus)
        lost = len(_of(clips, corpus)) - len(part)
        corpora[corpus] = _table(corpus, labels, plan, folds, config, models) | {
            "clips": {"encoded": len(part), "rejected": lost}
        }
    result = {
        "versions": versions(),
        "git": git_revision(),
        "preset": preset,
        "seeds": config.seeds,
        "config": recorded(config),
        "models": {kind_of(key): card for key, card in models.items()},
        "corpora": corpora,
    }
    out.write_json(RESULT, result)
    return Result(out, result)


def _rounds(clips: pa.Table, corpus: str, config: EvaluateConfig) -> Protocol:
    return protocol(_of(clips, corpus), corpus, config.folds, config.splits, config.protocol)


def _of(clips: pa.Table, corpus: str | None) -> pa.Table:
    return clips.filter(pa.array([name == corpus for name in clips["corpus"].to_pylist()], pa.bool_()))


def _decides(
    config: EvaluateConfig, clips: pa.Table, table: EncodedTable | None, names: Mapping[str, str]
) -> dict[str, Any]:
    """The options, clips and revisions of the models, which together determine the results."""
    columns = ["uri", "start_s", "end_s", "emotion", "speaker", "corpus", "split", "fold"]
    content = repr(clips.select(columns).to_pydict()).encode()
    if table is None:
        revisions = {key: revision_of(parse_spec(name, kind_of(key))) for key, name in names.items()}
    else:
        content += table_identity(table)
        revisions = {key: table.models[key]["revision"] for key in names}
    options = {key: value for key, value in recorded(config).items() if key not in BY_FOLD_OPERATIONAL}
    return options | {"revisions": revisions, "clips": hashlib.sha256(content).hexdigest()[:12]}


def _check_vectors(config: EvaluateConfig, models: Mapping[str, Any]) -> None:
    card = next((card for key, card in models.items() if kind_of(key) == "specialist"), None)
    if card is not None and config.refit != "none" and not card.get("vector_dim"):
        raise InputError(f"--specialist {card['model']} has no vectors to train a head on: use --refit none")


def _encoded_once(config: EvaluateConfig, clips: pa.Table, out: Output, own_ray: bool) -> pa.Table:
    """The encoded clips: from an earlier run of this evaluation, else encoded and stored now."""
    if out.exists(CLIPS):
        return out.read_table(CLIPS)
    has_specialist = config.specialist != "none"
    encoded, rejects = encode(clips, config, own_ray, vectors=has_specialist)
    out.write_table(f"{REJECTS}/rejects.parquet", rejects if len(rejects) else REJECTED.empty_table())
    out.write_table(CLIPS, encoded)
    return encoded


def _vectors(
    part: pa.Table,
    table: EncodedTable | None,
    models: Mapping[str, Any],
    evidence: Evidence,
    config: EvaluateConfig,
) -> NDArray[np.floating] | None:
    key = next((key for key, card in models.items() if card.get("vector_dim")), None)
    if key is None:
        return None
    vectors = vectors_of(part, table, key)
    return by_speaker(vectors, evidence.speakers.tolist()) if config.normalise == "speaker" else vectors


def _folds(
    evidence: Evidence,
    vectors: NDArray[np.floating] | None,
    plan: Protocol,
    config: EvaluateConfig,
    out: Output,
    corpus: str,
) -> list[list[dict[str, Any]]]:
    """Records of all folds, folds[seed][fold]; those that are not stored yet are computed, in parallel."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    shared: Any = ray.put((evidence, vectors, config))
    work: Any = ray.remote(num_cpus=1)(_fold)  # Ray's type stubs lack optional arguments
    running: dict[Any, tuple[int, int]] = {}
    for seed in range(config.seeds):
        for n, r in enumerate(plan.rounds):
            stored = out.read_json(_file(corpus, seed, plan.names[n]))
            if stored is not None:
                found[seed, n] = stored
            else:
                running[work.remote(shared, r, seed)] = seed, n
    if found:
        log.info(f"{corpus}: {len(found)} of {config.seeds * len(plan.rounds)} folds are done already")
    while running:
        (ready,), _ = ray.wait(list(running), num_returns=1)
        seed, n = running.pop(ready)
        found[seed, n] = {"versions": versions(), "fold": plan.names[n], "seed": seed} | ray.get(ready)
        out.write_json(_file(corpus, seed, plan.names[n]), found[seed, n])
        ua = ", ".join(f"{name} {100 * of['ua']:.1f}" for name, of in found[seed, n]["systems"].items())
        log.info(f"{corpus}, {plan.names[n]}, seed {seed}: UA in %: {ua}")
    return [[found[seed, n] for n in range(len(plan.rounds))] for seed in range(config.seeds)]


def _fold(shared: tuple[Evidence, NDArray | None, EvaluateConfig], r: Round, seed: int) -> dict[str, Any]:
    evidence, vectors, config = shared
    return record_of(run_fold(evidence, vectors, r, config, seed), evidence, r)


def _file(corpus: str, seed: int, fold: str) -> str:
    return f"{FOLDS}/{corpus}/seed-{seed}/{fold}.json"


def _table(
    corpus: str,
    labels: tuple[str, ...],
    plan: Protocol,
    folds: list[list[dict[str, Any]]],
    config: EvaluateConfig,
    models: Mapping[str, Any],
) -> dict[str, Any]:
    """The results of one corpus; of test sets that are apart, each has its own."""
    parts = {"": folds}
    if plan.apart:
        parts = {name: [[of_seed[n]] for of_seed in folds] for n, name in enumerate(plan.names)}
    return {
        "labels": list(labels),
        "protocol": plan.facts | {"name": config.protocol, "licence": licences().get(corpus)},
        "folds": list(plan.names),
        "results": {name: spread(part, len(labels), config.resamples) for name, part in parts.items()},
        "names": {name: system_title(name) for name in folds[0][0]["systems"]},
        "choices": [[fold["choices"] for fold in of_seed] for of_seed in folds],
        "in_sample": _in_sample(corpus, config, models),
        "published": [vars(one) for one in published(corpus)] if config.protocol == "emobox" else [],
    }


def _in_sample(corpus: str, config: EvaluateConfig, models: Mapping[str, Any]) -> dict[str, str]:
    """A sentence for each kind of model that names this corpus as its training data."""
    found = {}
    for key, card in models.items():
        frozen = kind_of(key) == "specialist" and config.refit != "none"
        used = (
            card | {"trained_on": card.get("vectors_trained_on", card.get("trained_on", ()))}
            if frozen
            else card
        )
        if sentence := seen_in_training([corpus], {key: used}).get(corpus):
            found[kind_of(key)] = sentence
    return found
