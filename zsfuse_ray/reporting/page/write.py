"""Write the page of a run: template, style, script and data in one file that needs no network."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from pyarrow import fs as pafs

from zsfuse_ray.config.report import ReportConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.reporting.exports.labelled import LabelledRun
from zsfuse_ray.reporting.page.checks import Checks
from zsfuse_ray.reporting.page.clips import embedded_clips
from zsfuse_ray.reporting.page.content import Listed, check_rows, listed_recordings, page_data, rejects
from zsfuse_ray.reporting.page.results import Shown, evaluation, tuning
from zsfuse_ray.runs.folder import Output

PAGE = "report.html"
_FILES = resources.files("zsfuse_ray.reporting.page")


def report(config: ReportConfig) -> str:
    """Write the page; returns the summary to print. InputError for a run without labels or a bad output."""
    run = LabelledRun.open(config.run)
    results = [shown(uri) for shown, uri in ((evaluation, config.evaluation), (tuning, config.tuning)) if uri]
    folder, name = _place(config, run)
    local = folder.root if isinstance(folder.fs, pafs.LocalFileSystem) else None
    checks = Checks(run.record["config"]["labels"], config.sample, config.hardest)
    listed = listed_recordings(run)
    data = page_data(run, listed, checks, local)
    found = checks.found()
    clips, problems = embedded_clips(found, config.clips)
    data["digest"] = run.record["digest"]
    data["check"] = check_rows(found, clips, tuple(run.record["config"]["labels"]), local, run.extra_columns)
    folder.write_bytes(name, page(run, listed, data, results).encode(errors="replace"))
    lines = [f"page: {folder.uri}/{name} ({len(clips)} of {len(found)} segments to check with their audio)"]
    if problems:
        lines.append(f"without audio: {len(problems)}, the first because: {problems[0]}")
    return "\n".join(lines)


def _place(config: ReportConfig, run: LabelledRun) -> tuple[Output, str]:
    if not config.output:
        return run.out, PAGE
    folder, _, name = config.output.rpartition("/")
    if not name.endswith((".html", ".htm")):
        raise InputError(f"--output {config.output}: name an HTML file, for example {PAGE}")
    return Output.open(folder or ("/" if config.output.startswith("/") else ".")), name


def page(run: LabelledRun, listed: Listed, data: Mapping[str, Any], results: Sequence[Shown] = ()) -> str:
    """Return the HTML page of a run, with the data for its script; results: of an evaluation or a tuning."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((_FILES / "page.html").read_text())
    script = (_FILES / "page.js").read_text()
    counts = run.record["counts"]
    part = ""
    if len(listed.rows) < listed.total:
        part = f"A random part of the archive: {len(listed.rows):,} of {listed.total:,} recordings."
    given = run.record["config"]
    n = sum(data["histogram"])
    half = sum(data["histogram"][len(data["histogram"]) // 2 :]) / max(1, n)
    return template.render(
        title=Path(str(given.get("input") or given.get("embeddings"))).name or "the archive",
        style=Markup((_FILES / "page.css").read_text()),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(_json(data)),
        hours=f"{counts['audio_hours']:,.1f}",
        speech_hours=f"{counts['speech_hours']:,.1f}",
        recordings=f"{counts['recordings']:,}",
        segments=f"{counts['segments']:,}",
        n_rejects=f"{sum(counts['rejects'].values()):,}",
        shares=_shares(counts["label_shares"]),
        histogram=[100 * one / max(1, *data["histogram"]) for one in data["histogram"]],
        histogram_text=f"{half:.0%} of the segments have a confidence of at least 0.5",
        part=part,
        rejects=rejects(run),
        results=results,
        models=[
            {"kind": kind} | facts | {"trained_on": ", ".join(facts.get("trained_on", ()))}
            for kind, facts in run.record["models"].items()
        ],
        options=[(name.replace("_", " "), _plain(value)) for name, value in given.items()],
        footer=_footer(run),
    )


def _shares(shares: Mapping[str, float]) -> list[dict[str, Any]]:
    """The bars of the labels, in the order and colours of the label set."""
    most = max([*shares.values(), 1e-9])
    return [
        {"label": label, "percent": f"{share:.0%}", "width": round(100 * share / most, 1), "colour": n % 10}
        for n, (label, share) in enumerate(shares.items())
    ]


def _json(data: Mapping[str, Any]) -> str:
    """JSON that cannot end the script element that holds it."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any) -> str:
    return " | ".join(map(str, value)) if isinstance(value, list) else str(value)


def _footer(run: LabelledRun) -> str:
    lines = [f"zsfuse_ray {run.record['versions']['zsfuse_ray']}"]
    if repeated := run.record.get("effective_repetition"):
        lines.append(f"effective repetition: {json.dumps(repeated)}")
    return "; ".join(lines)
