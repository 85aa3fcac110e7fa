"""``zsfuse reproduce``: the paper's table, ALM × speech model × fusion × (a, b), for the corpora at hand."""

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.config.options import load_config, recorded
from zsfuse_ray.config.reproduce import ReproduceConfig
from zsfuse_ray.corpora.load import load
from zsfuse_ray.errors import InputError
from zsfuse_ray.experiments.by_fold import evaluate_by_fold
from zsfuse_ray.experiments.fold import FOLD_SYSTEMS
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.lock import holds_output
from zsfuse_ray.runs.provenance import git_revision, versions
from zsfuse_ray.runs.result import Result

log = logging.getLogger(__name__)

TABLE, CELLS = "table.json", "cells"
# best UA of the paper by corpus, from a digest of it: fine-tuned speech models fused with CLSP
PAPER = {"ravdess": 0.8711, "iemocap": 0.7184, "msp_podcast": 0.3118}
_OF_SPECIALIST = "specialist"  # its UA does not depend on the ALM


@holds_output
def reproduce(config: ReproduceConfig) -> Result:
    """Evaluate every cell that the output lacks; the result's record is table.json.

    A cell is an evaluation by fold of one ALM with one speech model, in cells/. A model that is not at hand
    or a corpus that is not given gives a row with the reason. InputError for invalid corpora.
    """
    out = Output.open(config.output)
    out.read_json(TABLE)  # of another program: an error, before anything is computed
    present = set(load(config.corpus)["corpus"].unique().to_pylist())
    rows = [_row(corpus, None, None, missing="corpus not given") for corpus in PAPER if corpus not in present]
    for specialist in config.specialists:
        for alm in config.alms:
            rows += _cell(config, alm, specialist, sorted(present))
    seen, kept = set(), []
    for row in rows:  # the specialist alone is the same in the cells of all ALMs
        key = (row["corpus"], row["specialist"], row["system"])
        if row["system"] != _OF_SPECIALIST or key not in seen:
            kept.append(row)
        seen.add(key)
    result = {
        "versions": versions(),
        "git": git_revision(),
        "config": recorded(config),
        "paper": {corpus: ua for corpus, ua in PAPER.items() if corpus in present},
        "names": FOLD_SYSTEMS,
        "rows": kept,
    }
    out.write_json(TABLE, result)
    return Result(out, result)


def _cell(config: ReproduceConfig, alm: str, specialist: str, corpora: list[str]) -> list[dict[str, Any]]:
    folder = f"{config.output.rstrip('/')}/{CELLS}/{_name(alm)}+{_name(specialist)}"
    try:
        options, preset = load_config(
            EvaluateConfig,
            corpus=config.corpus,
            alm=alm,
            specialist=specialist,
            protocol=config.protocol,
            seeds=config.seeds,
            audio_repeats=config.audio_repeats,
            text_repeats=config.text_repeats,
            each_copies=True,
            output=folder,
            ray_address=config.ray_address,
            dashboard=config.dashboard,
        )
        result = evaluate_by_fold(options, preset).record
    except InputError as error:
        log.warning(f"{alm} with {specialist} is left out: {error}")
        return [_row(corpus, alm, specialist, missing=str(error)) for corpus in corpora]
    return [
        row for corpus, table in result["corpora"].items() for row in _rows(corpus, alm, specialist, table)
    ]


def _rows(corpus: str, alm: str, specialist: str, table: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for part, systems in table["results"].items():
        for system, of in systems.items():
            name, _, copies = system.partition("@")
            if not copies and name == "alm_ensemble":
                continue  # the same as with one copy of each
            kinds = {"alm"} if name.startswith("alm_") else {"specialist"}
            kinds = kinds if name == _OF_SPECIALIST or name.startswith("alm_") else {"alm", "specialist"}
            yield _row(
                f"{corpus} {part}".strip(),
                None if name == _OF_SPECIALIST else alm,
                None if name.startswith("alm_") else specialist,
                name,
                None if name == _OF_SPECIALIST else copies.replace(",", ", ") or "chosen",
                of["ua"],
                in_sample=bool(kinds & set(table["in_sample"])),
            )


def _row(
    corpus: str,
    alm: str | None,
    specialist: str | None,
    system: str | None = None,
    copies: str | None = None,
    ua: Mapping[str, Any] | None = None,
    missing: str | None = None,
    in_sample: bool = False,
) -> dict[str, Any]:
    """A row of the table; missing: why it has no value. copies: "a, b", or that they are chosen."""
    row = {"corpus": corpus, "alm": alm, "specialist": specialist, "system": system, "copies": copies}
    return row | {"ua": None if ua is None else dict(ua), "missing": missing, "in_sample": in_sample}


def _name(model: str) -> str:
    return re.sub(r"[^\w.-]+", "_", model)
