"""The README's line for a cluster: ``ray job submit`` with token authentication."""

import json
import subprocess
import sys

from tests.jobs.jobs_support import ROOT, tables


def test_ray_job_submit(cluster, tmp_path):
    out = tmp_path / "out"
    submit = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--working-dir", ".", "--"]
    environment = {**cluster, "RAY_ADDRESS": cluster["DASHBOARD"]}
    environment.pop("PYTHONPATH")
    done = subprocess.run(
        [*submit, sys.executable, "jobs/score.py", "--input", "demo", "--output", str(out)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert "4 recordings" in done.stdout
    assert len(tables(out)["segments"])
    assert cluster["RAY_AUTH_TOKEN"] not in done.stdout + json.dumps((out / "run.json").read_text())


def test_without_the_token_it_is_refused(cluster, tmp_path):
    environment = {**cluster, "RAY_ADDRESS": cluster["DASHBOARD"], "RAY_AUTH_TOKEN": "0" * 64}
    submit = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--", "true"]
    done = subprocess.run(submit, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
