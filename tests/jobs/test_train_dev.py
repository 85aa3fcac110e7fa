"""``zsfuse train`` without dev clips: speakers are held out, or the last epoch is saved without a score."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

from tests.jobs.jobs_support import scored, write_wav
from tests.training.training_support import EMOTIONS, start, tones


def test_speakers_are_held_out_or_the_last_epoch_is_saved(run_job: Callable, tmp_path: Path) -> None:
    rows = []
    for i, samples in enumerate(tones(15)):
        write_wav(tmp_path / f"{i}.wav", samples / 32768)
        rows.append({"uri": f"{i}.wav", "emotion": EMOTIONS[i % 3], "speaker": f"s{i // 3}"})
    with (tmp_path / "clips.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    options = ["--train", tmp_path / "clips.csv", "--init", start(tmp_path / "init", "wavlm")]
    options += ["--epochs", 2, "--batch-s", 8, "--crop-s", 1]

    out = tmp_path / "model"
    done = run_job("train", *options, "--output", out)
    printed = scored(done)
    run = json.loads((out / "training.json").read_text())
    ((corpus, (speaker,)),) = run["held_out"].items()
    assert f"held out for dev: speakers {speaker} (20% of clips)\n" in done.stderr
    assert "12 train (clips 12); 3 dev (clips 3)" in done.stderr
    assert corpus == "clips"
    assert f"epoch {run['best']['epoch']} is in {out}: dev ua {run['best']['dev_ua']:.1%}" in printed
    assert f"Speakers held out of training for dev: {speaker}." in (out / "README.md").read_text()
    assert "nothing to do" in run_job("train", *options, "--output", out).stderr  # the same ones are held out

    out = tmp_path / "without"
    done = run_job("train", *options, "--output", out, "--dev", "none")
    printed = scored(done)
    assert "no dev clips, so no epoch is evaluated and the last one is saved: --dev none\n" in done.stderr
    assert f"the last epoch, 2, is in {out}: not evaluated, without dev clips" in printed
    run = json.loads((out / "training.json").read_text())
    assert run["held_out"] == {}
    assert set(run["best"]) == {"epoch", "steps", "loss", "lr", "seconds"}
    assert json.loads((out / "metrics.json").read_text())["best"] == run["best"]
    assert "score" not in (out / "README.md").read_text()
