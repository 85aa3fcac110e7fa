"""``evaluate --protocol`` on real files: one command, resumed fold by fold without the audio."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.jobs.jobs_support import lines, scored, speech, write_wav
from tests.models.tiny_pooled import write_pooled

FOLDS = [f"fold-{n}" for n in range(1, 6)]


def test_folds_are_resumed_and_seeds_added(run_job, tmp_path):
    write_pooled(tmp_path / "pooled")
    rows = []
    for s, speaker in enumerate("abcde"):
        for n in range(4):
            path = write_wav(tmp_path / "clips" / f"{speaker}{n}.wav", speech(0.6, seed=10 * s + n))
            rows.append({"uri": f"clips/{path.name}", "emotion": ("sad", "happy")[n % 2], "speaker": speaker})
    pd.DataFrame(rows).to_csv(tmp_path / "clips.csv", index=False)
    models = ("--alm", f"pooled-alm:{tmp_path}/pooled", "--specialist", f"pooled:{tmp_path}/pooled")
    command = ("evaluate", "--input", tmp_path / "clips.csv", "--output", tmp_path / "out", *models)
    command = (*command, "--protocol", "loso", "--templates", "{}", "--resamples", 100)
    command = (*command, "--audio-repeats", 1, "--text-repeats", 1)

    printed = scored(run_job(*command))
    assert "| fused, concat (the paper's) |" in printed
    result = json.loads((tmp_path / "out" / "protocol.json").read_text())
    (table,) = result["corpora"].values()
    assert table["folds"] == FOLDS
    assert set(table["results"][""]) == {
        "specialist", "alm_ensemble", "alm_amplified", "linear", "loglinear", "stacked", "concat"
    }  # fmt: skip
    of_seed = tmp_path / "out" / "folds" / "clips" / "seed-0"
    uas = [json.loads((of_seed / f"{n}.json").read_text())["systems"]["concat"]["ua"] for n in FOLDS]
    assert table["results"][""]["concat"]["ua"]["mean"] == pytest.approx(sum(uas) / 5)

    again = run_job(*command)
    assert any("is complete; nothing to do" in line for line in lines(again.stderr))

    # as after a kill in the last fold; without the audio it cannot encode again
    kept = (of_seed / "fold-1.json").stat().st_mtime_ns
    lost = (of_seed / "fold-5.json").read_text()
    (of_seed / "fold-5.json").unlink()
    (tmp_path / "out" / "protocol.json").unlink()
    for path in (tmp_path / "clips").iterdir():
        path.write_bytes(b"")
    printed = scored(run_job(*command, "--seeds", 2))
    assert (of_seed / "fold-1.json").stat().st_mtime_ns == kept
    assert json.loads((of_seed / "fold-5.json").read_text()) == json.loads(lost)
    assert sorted(path.name for path in Path(of_seed.parent).iterdir()) == ["seed-0", "seed-1"]
    assert "seeds: 2" in printed

    refused = run_job(*command, "--objective", "ua")
    assert refused.returncode == 2
    assert "objective nll → ua" in refused.stderr
