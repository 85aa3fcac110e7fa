"""The paper's table as Markdown and LaTeX."""

from zsfuse_ray.reporting.reproduction import escaped, latex, markdown

UA = {"mean": 0.702, "folds": 0.051, "seeds": None, "low": 0.6, "high": 0.8}
NONE = {"alm": None, "specialist": None, "system": None, "copies": None, "ua": None, "in_sample": False}
ROW = NONE | {
    "alm": "a_b:c",
    "specialist": "s",
    "system": "concat",
    "copies": "2, 1",
    "ua": UA,
    "missing": None,
}
RESULT = {
    "paper": {"ravdess": 0.8711},
    "names": {"concat": "fused, concat"},
    "rows": [
        NONE | {"corpus": "iemocap", "missing": "corpus not given"},
        ROW | {"corpus": "ravdess"},
        ROW | {"corpus": "ravdess", "in_sample": True},
        NONE | {"corpus": "ravdess", "alm": "x", "specialist": "s", "missing": "no such family | x_y"},
        NONE | {"corpus": "ravdess", "alm": "z", "specialist": "s", "missing": "no such family | x_y"},
    ],
}


def test_a_row_that_is_missing_has_its_reason():
    lines = markdown(RESULT).splitlines()
    assert lines[2] == "| ravdess | CLSP | best | the paper's best | – | 87.1 |"
    assert "| iemocap | – | – | all | all | missing (1) |" in lines
    assert "| ravdess | a_b:c | s | fused, concat | 2, 1 | 70.2 ± 5.1 ± – |" in lines
    assert "| ravdess | a_b:c | s | fused, concat | 2, 1 | 70.2 ± 5.1 ± –† |" in lines
    assert "| ravdess | x | s | all | all | missing (2) |" in lines
    assert "| ravdess | z | s | all | all | missing (2) |" in lines
    assert lines[-2:] == ["- missing (1): corpus not given", "- missing (2): no such family | x_y"]


def test_latex_is_escaped():
    assert escaped("50 % of a_b & #1 {x} ~ ^ \\ $") == (
        r"50 \% of a\_b \& \#1 \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{} \$"
    )
    text = latex(RESULT)
    assert r"ravdess & a\_b:c & s & fused, concat & 2, 1 & 70.2 $\pm$ 5.1 $\pm$ --$^\dagger$ \\" in text
    assert text.count(r"\\") == 1 + 1 + len(RESULT["rows"])
    assert text.startswith(r"\begin{longtable}{llllll}")
