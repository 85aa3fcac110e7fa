"""Access to the Hugging Face hub: a single request first, with a timeout, and one-line errors."""

import threading
from concurrent.futures import Future
from pathlib import Path

from huggingface_hub import (
    HfApi,
    HfFileMetadata,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from zsfuse_ray.errors import InputError

_HUB_SECONDS = 8  # timeout of the request whether a model exists
_LOCAL_HINT = "use a local folder instead, such as --alm clap:/path/to/folder"
FILES = (".pt", ".pth", ".pth.tar", ".ckpt", ".safetensors")  # single files of weights


def hub_config(name: str) -> Path:
    """Return config.json of a hub model in the hub's cache, downloaded if missing."""

    try:
        cached = try_to_load_from_cache(name, "config.json")
        if isinstance(cached, str):
            return Path(cached)
        _request(name)
        return Path(hf_hub_download(name, "config.json"))
    except Exception as error:  # see `snapshot`
        raise _hub_error(name, error) from error


def find_file(checkpoint: str, repository: str, file: str) -> tuple[str | None, Path | None]:
    """Return the commit of a file on the hub, and its path in the hub's cache, None if not cached."""
    try:
        cached = try_to_load_from_cache(repository, file)
        if isinstance(cached, str):
            path = Path(cached)
            return path.parents[file.count("/")].name, path
        return _request(repository, file=file).commit_hash, None
    except Exception as error:  # see `snapshot`
        raise _hub_error(checkpoint, error) from error


def fetch_file(checkpoint: str, repository: str, file: str, revision: str | None) -> Path:
    """Download a file of the hub and return its path."""
    try:
        newest = _request(repository, file=file).commit_hash
        # If downloaded by commit, the cache could not find it by name again when offline.
        return Path(hf_hub_download(repository, file, revision=None if newest == revision else revision))
    except Exception as error:  # see `snapshot`
        raise _hub_error(checkpoint, error) from error


def snapshot(name: str, revision: str | None) -> Path:
    """Download a hub model and return its folder; weights are its safetensors, else its .bin files."""
    try:
        _request(name, revision)
        files = HfApi().list_repo_files(name, revision=revision)
        weights = "*.safetensors" if any(f.endswith(".safetensors") for f in files) else "*.bin"
        wanted = ["*.json", "*.txt", "README.md", weights]
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except Exception as error:  # the hub client's errors share no base class across its versions
        raise _hub_error(name, error) from error


def fetch_tokenizer(name: str) -> Path:
    """Return a folder with the tokenizer of a hub model, downloaded without the weights if missing.

    Raises InputError, within ten seconds, if the hub cannot be reached.
    """
    try:
        for file in ("tokenizer.json", "vocab.json", "vocab.txt"):
            if isinstance(cached := try_to_load_from_cache(name, file), str):
                return Path(cached).parent
        _request(name)
        wanted = ["tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "config.json", "*.model"]
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # see `snapshot`
        raise _hub_error(name, error) from error


def hub_file(checkpoint: str) -> tuple[str, str] | None:
    """Return the repository and the file of OWNER/NAME/FILE; None for any other name."""
    owner, _, rest = checkpoint.partition("/")
    name, _, file = rest.partition("/")
    is_one = owner and name and file.endswith(FILES) and not checkpoint.startswith((".", "~", "/"))
    return (f"{owner}/{name}", file) if is_one else None


def _request(name: str, revision: str | None = None, file: str = "config.json") -> HfFileMetadata:
    """Request a file's metadata from the hub once; raises errors of the hub client, or TimeoutError.

    The client's own calls retry for minutes without a network, and resolve host names without a timeout:
    hence a single plain request, in a thread.
    """
    url = hf_hub_url(name, file, revision=revision)
    response: Future[HfFileMetadata] = Future()

    def send() -> None:
        try:
            response.set_result(get_hf_file_metadata(url, timeout=_HUB_SECONDS / 2))
        except Exception as error:
            response.set_exception(error)

    threading.Thread(target=send, daemon=True).start()
    return response.result(timeout=_HUB_SECONDS)


def _hub_error(name: str, error: Exception) -> InputError:
    if isinstance(error, HFValidationError):
        return InputError(f"{name} is neither a local folder nor a model id such as laion/clap-htsat-unfused")
    if isinstance(error, GatedRepoError):
        return InputError(
            f"{name} is gated: accept its terms on its page, log in (hf auth login), or {_LOCAL_HINT}"
        )
    if isinstance(error, RepositoryNotFoundError):
        return InputError(f"{name} is neither a local folder nor a public model on the hub")
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        if hub_file(name):
            return InputError(f"no file {name} on the hub")
        return InputError(f"{name} has no config.json on the hub; expected a transformers checkpoint")
    if isinstance(error, OfflineModeIsEnabled):
        return InputError(f"{name} is not in the hub's cache, and HF_HUB_OFFLINE is set; {_LOCAL_HINT}")
    return InputError(f"cannot download {name} from the hub ({type(error).__name__}); {_LOCAL_HINT}")
