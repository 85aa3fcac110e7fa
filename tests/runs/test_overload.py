"""Reads of tables in a store that answers some requests with 503 SlowDown."""

import http.server
import io
import json
import random
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs as pafs

from zsfuse_ray import stores
from zsfuse_ray.archive.plan import Part
from zsfuse_ray.archive.whole import is_cut_off, planned_bundles
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.lock import _owner

JSON = json.dumps({"versions": {"zsfuse_ray": "1"}, "n": 7}).encode()

ANSWER = b"<Error><Code>SlowDown</Code><Message>" + b"Please reduce " * 20 + b"</Message></Error>"


class Overloaded(http.server.BaseHTTPRequestHandler):
    """Holds two objects; a share of the requests, `down` all, is answered with 503."""

    protocol_version = "HTTP/1.1"
    rng, share, down = random.Random(0), 0.25, False
    objects: dict[str, bytes] = {}  # noqa: RUF012

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        body = self.objects.get(self.path.rsplit("/", 1)[-1].partition("?")[0], b"")
        status, wanted = 200, self.headers.get("Range")
        if wanted:
            first, last = (int(end) for end in wanted.removeprefix("bytes=").split("-"))
            status, body = 206, body[first : last + 1]
        if self.down or self.rng.random() < self.share:
            status, body = 503, ANSWER
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Sat, 28 Nov 2026 10:00:00 GMT")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def out(monkeypatch):
    monkeypatch.setattr(stores, "_TABLE_WAITS_S", (0.01,) * 8)
    table = io.BytesIO()
    pq.write_table(pa.table({"n": range(5)}), table)
    Overloaded.objects = {"run.json": JSON, "a.parquet": table.getvalue()}
    bundles = io.BytesIO()
    pq.write_table(pa.table({"bundle_id": [3, 4, 5], "part": [0, 1, 1]}), bundles)
    Overloaded.objects |= {"bundles.parquet": bundles.getvalue(), "lock": b'{"pid": 7}'}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Overloaded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        fs = pafs.S3FileSystem(
            access_key="a",
            secret_key="b",
            region="us-east-1",
            scheme="http",
            endpoint_override=f"127.0.0.1:{server.server_port}",
            retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=1),
        )
        yield Output("s3://bucket", fs, "bucket")
        server.shutdown()


def test_reads_are_tried_again_as_a_whole(out: Output) -> None:
    for _ in range(10):
        assert out.read_bytes("bucket/run.json") == JSON
        content = pa.BufferReader(out.read_bytes("bucket/a.parquet"))
        assert pq.read_table(content)["n"].to_pylist() == list(range(5))


PART = Part(number=1, increment=0, first=0, end=9, dropped=())


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda out: is_cut_off(out, "bucket/a.parquet"), False),
        (lambda out: planned_bundles(out, PART).tolist(), [4, 5]),
        (lambda out: out.schema("a.parquet").names, ["n"]),
        (lambda out: out.read_file("bucket/a.parquet", columns=["n"]).num_rows, 5),
        (lambda out: _owner(out, "lock"), {"pid": 7}),
    ],
    ids=["the end of a file", "planned bundles", "a schema", "columns", "the owner of a lock"],
)
def test_reads_of_few_bytes_are_tried_again(out: Output, read, expected, monkeypatch) -> None:
    """The error's text is longer than what they ask for, which pyarrow does not try again."""
    monkeypatch.setattr(Overloaded, "share", 0.1)
    assert [read(out) for _ in range(6)] == [expected] * 6


def test_a_store_that_stays_down_is_an_error(out: Output, monkeypatch) -> None:
    monkeypatch.setattr(Overloaded, "down", True)
    with pytest.raises(OSError, match=r"run\.json"):
        out.read_bytes("bucket/run.json")
