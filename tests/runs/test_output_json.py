"""JSON files of a run contain no NaN, which is not JSON."""

import json
import math
from pathlib import Path

import pytest

from zsfuse_ray.runs.folder import Output


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_not_written(tmp_path: Path, value: float) -> None:
    out = Output.open(str(tmp_path / "out"))
    out.write_json("run.json", {"scale": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        out.write_json("run.json", {"models": [{"scale": value}]})
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == {"scale": 1.0}
