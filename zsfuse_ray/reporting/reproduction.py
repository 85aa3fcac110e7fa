"""``table.json`` as Markdown and as LaTeX (booktabs)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zsfuse_ray.reporting.by_fold import mean_and_spread
from zsfuse_ray.runs.folder import Output

MARKDOWN, LATEX = "table.md", "table.tex"
_HEAD = ("corpus", "ALM", "speech model", "system", "a, b", "UA in %")
_ESCAPED = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    "†": r"$^\dagger$",
}


def write(out: Output, result: Mapping[str, Any]) -> str:
    """Write table.md and table.tex; returns the summary to print."""
    text = markdown(result)
    out.write_bytes(MARKDOWN, text.encode())
    out.write_bytes(LATEX, latex(result).encode())
    return f"{text}\ntables: {out.uri}/{MARKDOWN}, {out.uri}/{LATEX}, {out.uri}/table.json"


def markdown(result: Mapping[str, Any]) -> str:
    """The table as Markdown, with a list of what is missing, and why."""
    lines = [f"| {' | '.join(_HEAD)} |", "|---" * len(_HEAD) + "|"]
    lines += [f"| {' | '.join(one.replace('|', chr(92) + '|') for one in row)} |" for row in _cells(result)]
    return "\n".join([*lines, "", *(f"- {note}" for note in _notes(result))]) + "\n"


def latex(result: Mapping[str, Any]) -> str:
    """The table as LaTeX: it needs the packages booktabs and longtable."""
    head = " & ".join(map(escaped, _HEAD))
    lines = [r"\begin{longtable}{llllll}", r"\toprule", head + r" \\", r"\midrule", r"\endhead"]
    lines += [" & ".join(map(escaped, row)) + r" \\" for row in _cells(result)]
    lines += [r"\bottomrule", r"\end{longtable}"]
    notes = [rf"\noindent {escaped(note)}\par" for note in _notes(result)]
    return "\n".join([*lines, *notes]) + "\n"


def escaped(text: str) -> str:
    """Text for LaTeX."""
    return re.sub(r"[\\~^±–†&%$#_{}]", lambda found: _ESCAPED.get(found[0], "\\" + found[0]), text)


def _cells(result: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    reasons = _reasons(result["rows"])
    for corpus, ua in result["paper"].items():
        yield corpus, "CLSP", "best", "the paper's best", "–", f"{100 * ua:.1f}"
    for row in result["rows"]:
        models = row["alm"] or "–", row["specialist"] or "–"
        if row["missing"] is not None:
            yield row["corpus"], *models, "all", "all", f"missing ({reasons.index(row['missing']) + 1})"
            continue
        mark = "†" if row["in_sample"] else ""
        value = mean_and_spread(row["ua"]) + mark
        yield row["corpus"], *models, result["names"][row["system"]], row["copies"] or "–", value


def _reasons(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["missing"] for row in rows if row["missing"] is not None))


def _notes(result: Mapping[str, Any]) -> Iterator[str]:
    """What the values are, and why others are missing."""
    yield (
        "UA: mean ± standard deviation over folds ± over seeds. Speech models are frozen with a trained "
        "head; the paper fine-tunes them, so its values are expected to be higher."
    )
    if any(row["in_sample"] for row in result["rows"]):
        yield "†: in-sample, a model's card names this corpus."
    for number, reason in enumerate(_reasons(result["rows"]), start=1):
        yield f"missing ({number}): {reason}"
