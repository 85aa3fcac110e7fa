"""The dashboard of a local Ray, over HTTP."""

import os
import subprocess
import sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

STARTS = """
from zsfuse_ray.process import messages_on_stderr
from zsfuse_ray.runs.cluster import connect

with messages_on_stderr():
    connect(None, dashboard=True)
input()
"""


def test_the_dashboard_of_a_local_ray_requires_the_token() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    process = subprocess.Popen(
        [sys.executable, "-c", STARTS],
        env=environment,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stderr
    try:
        url = next(line for line in process.stderr if line.startswith("dashboard: ")).split()[1]
        assert b"Ray Dashboard" in urlopen(url, timeout=60).read()
        with pytest.raises(HTTPError, match="401"):
            urlopen(f"{url}/api/version", timeout=60)
        bearer = {"Authorization": f"Bearer {environment['RAY_AUTH_TOKEN']}"}
        assert urlopen(Request(f"{url}/api/version", headers=bearer), timeout=60).status == 200
    finally:
        process.communicate("\n", timeout=60)
