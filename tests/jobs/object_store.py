"""A real S3 server (SeaweedFS) for the tests."""

import os
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import s3fs

from tests.jobs.jobs_support import wait_for

PORTS = ("s3.port", "master.port", "volume.port", "filer.port", "webdav.port", "admin.port")


@dataclass
class ObjectStore:
    """A server with a bucket `archive`, its files in a folder; ports: as many as PORTS."""

    weed: Path
    folder: Path
    ports: list[int]
    _process: subprocess.Popen | None = field(default=None, init=False)

    @property
    def environment(self) -> dict[str, str]:
        """How it is reached."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.ports[0]}",
            "AWS_ACCESS_KEY_ID": "zsfusekey",
            "AWS_SECRET_ACCESS_KEY": "verysecretvalue",
            "AWS_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            process = self._process = subprocess.Popen(
                [self.weed, "mini", f"-dir={self.folder}", "-ip=127.0.0.1", "-master.telemetry=false"]
                + [f"-{name}={port}" for name, port in zip(PORTS, self.ports, strict=True)],
                env={**os.environ, **self.environment, "S3_BUCKET": "archive"},
                stdout=log,
                stderr=log,
            )

        def ready() -> bool:
            assert process.poll() is None, (self.folder / "log").read_text()[-2000:]
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.ports[0])):
                    return False
            try:
                return "archive" in self.files().ls("")
            except OSError:
                return False  # still starting

        wait_for(ready, 60, "the S3 server")

    def files(self) -> s3fs.S3FileSystem:
        """A client, whatever others exist in this process."""
        return s3fs.S3FileSystem(
            key=self.environment["AWS_ACCESS_KEY_ID"],
            secret=self.environment["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            skip_instance_cache=True,
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the server with a signal."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=30)
