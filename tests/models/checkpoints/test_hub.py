"""Tests with a local HTTP server in place of the hub."""

import json
import socket
import threading
import time
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from zsfuse_ray.errors import InputError
from zsfuse_ray.models.checkpoints import hub as hub_module
from zsfuse_ray.models.checkpoints.find import resolve
from zsfuse_ray.models.checkpoints.load import download
from zsfuse_ray.models.checkpoints.weights import read_weights, tokenizer_of
from zsfuse_ray.models.families.clap import Clap
from zsfuse_ray.models.families.classifier import Classifier
from zsfuse_ray.models.untrained import byte_tokenizer

COMMIT = "a" * 40


class Hub(BaseHTTPRequestHandler):
    """Serves one folder as the model some/model, at COMMIT."""

    folder: Path
    requested: list[str]

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        path = self.path.partition("?")[0].strip("/").split("/")
        self.requested.append(path[-1])
        headers, data = {"X-Repo-Commit": COMMIT}, b""
        if path[:2] == ["api", "models"]:
            files = list(self.folder.iterdir())
            if "tree" in path:
                data = json.dumps(
                    [
                        {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "b" * 40}
                        for f in files
                    ]
                ).encode()
            else:
                siblings = [{"rfilename": f.name} for f in files]
                data = json.dumps({"id": "some/model", "sha": COMMIT, "siblings": siblings}).encode()
        elif path[:2] == ["some", "gated"]:
            headers["X-Error-Code"] = "GatedRepo"
        elif path[:2] == ["some", "busy"]:
            headers["X-Error-Code"] = "busy"
        elif path[:2] != ["some", "model"]:
            headers["X-Error-Code"] = "RepoNotFound"
        elif not (self.folder / path[-1]).is_file():
            headers["X-Error-Code"] = "EntryNotFound"
        else:
            data = (self.folder / path[-1]).read_bytes()
        codes = {"GatedRepo": 403, "RepoNotFound": 404, "EntryNotFound": 404, "busy": 503}
        self.send_response(codes.get(headers.get("X-Error-Code", ""), 200))
        for name, value in {
            **headers,
            "ETag": f'"{sha1(data).hexdigest()}"',
            "Content-Length": len(data),
        }.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_GET = do_HEAD


def use_hub(monkeypatch, tmp_path, address) -> None:
    url = f"http://{address[0]}:{address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    class Handler(Hub):
        pass

    Handler.folder, Handler.requested = folder, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    use_hub(monkeypatch, tmp_path, server.server_address)
    yield Handler
    server.shutdown()


def test_hub_model_is_downloaded_once_and_only_on_load(hub, folder):
    found = resolve("some/model")
    assert (found.path_or_id, found.revision, found.is_local) == ("some/model", COMMIT, False)
    assert "model.safetensors" not in hub.requested
    model = Classifier("some/model")
    assert (model.revision, model.licence) == (COMMIT, "apache-2.0")
    assert "model.safetensors" in hub.requested
    hub.requested.clear()
    again = Classifier("some/model")
    assert hub.requested == []  # served from the cache, without network
    assert torch.equal(
        again.classify([torch.ones(16000)])[0], Classifier(str(folder)).classify([torch.ones(16000)])[0]
    )


def test_hub_file_is_downloaded_once_and_only_on_load(hub, folder):
    torch.save({"x": torch.ones(2)}, folder / "best.pt")
    found = resolve("some/model/best.pt")
    assert (found.path_or_id, found.revision, found.is_local) == ("some/model/best.pt", COMMIT, False)
    assert (found.file, found.config, found.licence) == (None, {}, None)
    fetched = download(found)
    assert fetched.weights == fetched.file == fetched.folder / "best.pt"
    assert torch.equal(read_weights(fetched)["x"], torch.ones(2))
    hub.requested.clear()
    assert download(resolve("some/model/best.pt")) == fetched
    assert hub.requested == []


def test_hub_file_in_a_folder(hub, folder):
    torch.save({"x": torch.ones(2)}, folder / "best.pt")  # the server uses only the last part of a path
    found = resolve("some/model/runs/best.pt")
    assert (found.revision, found.file) == (COMMIT, None)
    fetched = download(found)
    assert fetched.weights.parts[-2:] == ("runs", "best.pt")
    assert resolve("some/model/runs/best.pt") == fetched


def test_unavailable_hub_files_are_errors(hub):
    for name, message in (
        ("some/model/absent.pt", "no file some/model/absent.pt on the hub"),
        ("some/other/best.pt", "neither a local folder nor a public model"),
        ("some/gated/best.pt", "is gated"),
    ):
        with pytest.raises(InputError, match=message) as error:
            resolve(name)
        assert "\n" not in str(error.value)


def test_missing_tokenizer_is_downloaded_from_the_hub(hub, folder, tmp_path):
    byte_tokenizer().save_pretrained(folder)
    torch.save({"x": torch.ones(2)}, tmp_path / "best.pt")
    found = resolve(str(tmp_path / "best.pt"))
    expected = byte_tokenizer()("ab").input_ids
    assert tokenizer_of(found, "some/model")("ab").input_ids == expected
    assert "model.safetensors" not in hub.requested
    hub.requested.clear()
    assert tokenizer_of(found, "some/model")("ab").input_ids == expected
    assert hub.requested == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("some/gated", "is gated: accept its terms"),
        ("some/other", "neither a local folder nor a public model"),
        ("some/busy", "cannot download some/busy from the hub"),
        ("no model", "neither a local folder nor a model id"),
    ],
)
def test_unavailable_hub_models_are_errors(hub, name, message):
    with pytest.raises(InputError, match=message) as error:
        resolve(name)
    assert "\n" not in str(error.value)


def test_hub_model_without_config_is_an_error(hub, folder):
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"some/model has no config\.json on the hub"):
        resolve("some/model")


def test_unreachable_hub_fails_within_ten_seconds(tmp_path, monkeypatch):
    with socket.socket() as silent:  # accepts connections and never responds, like a dropping firewall
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        use_hub(monkeypatch, tmp_path, silent.getsockname())
        start = time.monotonic()
        with pytest.raises(InputError, match=r"cannot download laion/x.*--alm clap:/path/to/folder"):
            Clap("laion/x")
        assert time.monotonic() - start < 10
        start = time.monotonic()
        with pytest.raises(InputError, match=r"cannot download laion/x/best\.pt"):
            resolve("laion/x/best.pt")
        assert time.monotonic() - start < 10
        start = time.monotonic()
        torch.save({"x": torch.ones(2)}, tmp_path / "best.pt")
        message = (
            r"best\.pt needs the tokenizer of roberta-base: cannot download roberta-base from the hub.*"
            r"or put the tokenizer's files .* into the folder of best\.pt"
        )
        with pytest.raises(InputError, match=message) as error:
            tokenizer_of(resolve(str(tmp_path / "best.pt")), "roberta-base")
        assert "\n" not in str(error.value)
        assert time.monotonic() - start < 10
    start = time.monotonic()
    with pytest.raises(InputError, match="cannot download laion/x"):  # now the port is closed
        Clap("laion/x")
    assert time.monotonic() - start < 10


def test_cached_config_without_weights_fails_fast(hub, monkeypatch):
    found = resolve("some/model")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    start = time.monotonic()
    with pytest.raises(InputError, match="cannot download some/model"):
        download(found)
    assert time.monotonic() - start < 10


def test_a_pinned_model_is_requested_and_cached_at_its_revision(hub, monkeypatch):
    monkeypatch.setitem(hub_module._PINNED, "some/model", COMMIT)
    asked, request = [], hub_module._request

    def record(name, revision=None, **options):
        asked.append(revision)
        return request(name, revision, **options)

    monkeypatch.setattr(hub_module, "_request", record)
    assert resolve("some/model").revision == COMMIT
    assert asked == [COMMIT]
    monkeypatch.setitem(hub_module._PINNED, "some/model", "c" * 40)  # as if only another one were cached
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="not in the hub's cache"):
        resolve("some/model")


def test_offline_mode_is_reported(tmp_path, monkeypatch):
    use_hub(monkeypatch, tmp_path, ("127.0.0.1", 9))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="laion/x is not in the hub's cache, and HF_HUB_OFFLINE is set"):
        resolve("laion/x")


SMALL = ("preprocessor_config.json", "README.md")


def cached(folder: Path) -> Path:
    """The folder of some/model in the cache, downloaded now."""
    place = download(resolve("some/model")).folder
    assert {file.name for file in place.iterdir()} == {file.name for file in folder.iterdir()}
    return place


def forget_lists(monkeypatch, place: Path) -> None:
    """As if another tool had downloaded the model, in another process."""
    for file in place.parent.parent.glob(".zsfuse_files*"):
        file.unlink()
    hub_module._listed.cache_clear()


@pytest.mark.parametrize("missing", SMALL)
@pytest.mark.parametrize("by_another_tool", [True, False])
def test_a_cached_model_is_completed(hub, folder, monkeypatch, missing: str, by_another_tool: bool):
    place = cached(folder)
    (place / missing).unlink()
    if by_another_tool:
        forget_lists(monkeypatch, place)
    hub.requested.clear()
    model = Classifier("some/model")
    assert model.licence == "apache-2.0"
    assert (place / missing).is_file()
    hub.requested.clear()
    Classifier("some/model")
    assert hub.requested == []


def test_a_complete_model_of_another_tool_is_checked_once(hub, folder, monkeypatch):
    place = cached(folder)
    forget_lists(monkeypatch, place)
    hub.requested.clear()
    Classifier("some/model")
    assert hub.requested
    hub_module._listed.cache_clear()  # in the next process
    hub.requested.clear()
    Classifier("some/model")
    assert hub.requested == []


@pytest.mark.parametrize("by_another_tool", [True, False])
def test_an_incomplete_model_is_used_as_it_is_without_the_hub(
    hub, folder, monkeypatch, caplog, by_another_tool
):
    place = cached(folder)
    if by_another_tool:
        forget_lists(monkeypatch, place)
    monkeypatch.setattr(hub_module, "_HUB_SECONDS", 0.5)
    there = constants.ENDPOINT
    for name in ("ENDPOINT", "HUGGINGFACE_CO_URL_TEMPLATE"):
        closed = getattr(constants, name).replace(there, "http://127.0.0.1:9")
        monkeypatch.setattr(constants, name, closed)
    (place / "README.md").unlink()
    assert Classifier("some/model").licence is None
    assert by_another_tool or "the cached some/model lacks files" in caplog.text
    (place / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="some/model: AutoFeatureExtractor cannot load") as error:
        Classifier("some/model")
    assert "\n" not in str(error.value)


def test_a_cached_tokenizer_is_completed(hub, folder, tmp_path, monkeypatch):
    byte_tokenizer().save_pretrained(folder)
    torch.save({"x": torch.ones(2)}, tmp_path / "best.pt")
    found = resolve(str(tmp_path / "best.pt"))
    tokenizer_of(found, "some/model")
    place = next((tmp_path / "hub").rglob("tokenizer_config.json"))
    place.unlink()
    assert tokenizer_of(found, "some/model").model_max_length == 512
    assert place.is_file()
