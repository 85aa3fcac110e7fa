"""The Hugging Face hub: asked once, with a limit on the time it may take, and one-line errors."""

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

_HUB_SECONDS = 8  # how long a hub may take to answer whether it has a model
_LOCAL_HINT = "name a local folder instead, such as --alm clap:/path/to/folder"
FILES = (".pt", ".pth", ".pth.tar", ".ckpt", ".safetensors")  # endings of weights that are a checkpoint alone


def hub_config(name: str) -> Path:
    """Return config.json of a hub model in the hub's cache, fetched if it is not there."""

    try:
        cached = try_to_load_from_cache(name, "config.json")
        if isinstance(cached, str):
            return Path(cached)
        _ask_hub(name)
        return Path(hf_hub_download(name, "config.json"))
    except Exception as error:  # as in download
        raise _hub_error(name, error) from error


def find_file(checkpoint: str, repository: str, file: str) -> tuple[str | None, Path | None]:
    """Return the commit of a file on the hub, and where the hub's cache has it, if it has."""
    try:
        cached = try_to_load_from_cache(repository, file)
        if isinstance(cached, str):
            path = Path(cached)
            return path.parents[file.count("/")].name, path
        return _ask_hub(repository, file=file).commit_hash, None
    except Exception as error:  # as in snapshot
        raise _hub_error(checkpoint, error) from error


def fetch_file(checkpoint: str, repository: str, file: str, revision: str | None) -> Path:
    """Return where a file of the hub lies now that it is fetched."""
    try:
        newest = _ask_hub(repository, file=file).commit_hash
        # Fetched by its commit, the cache would not find it by its name again without the hub.
        return Path(hf_hub_download(repository, file, revision=None if newest == revision else revision))
    except Exception as error:  # as in snapshot
        raise _hub_error(checkpoint, error) from error


def snapshot(name: str, revision: str | None) -> Path:
    """Return a folder with everything of a hub model, fetched: its safetensors, else its .bin files."""
    try:
        _ask_hub(name, revision)
        files = HfApi().list_repo_files(name, revision=revision)
        weights = "*.safetensors" if any(f.endswith(".safetensors") for f in files) else "*.bin"
        wanted = ["*.json", "*.txt", "README.md", weights]
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except Exception as error:  # the hub client's errors share no base class across its versions
        raise _hub_error(name, error) from error


def fetch_tokenizer(name: str) -> Path:
    """Return a folder with the tokenizer of a hub model, fetched without its weights if it is not there.

    Raises InputError, within ten seconds, where the hub cannot be reached.
    """
    try:
        for file in ("tokenizer.json", "vocab.json", "vocab.txt"):
            if isinstance(cached := try_to_load_from_cache(name, file), str):
                return Path(cached).parent
        _ask_hub(name)
        wanted = ["tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "config.json", "*.model"]
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # as in download
        raise _hub_error(name, error) from error


def hub_file(checkpoint: str) -> tuple[str, str] | None:
    """Return the repository and the file that OWNER/NAME/FILE names; None for any other name."""
    owner, _, rest = checkpoint.partition("/")
    name, _, file = rest.partition("/")
    is_one = owner and name and file.endswith(FILES) and not checkpoint.startswith((".", "~", "/"))
    return (f"{owner}/{name}", file) if is_one else None


def _ask_hub(name: str, revision: str | None = None, file: str = "config.json") -> HfFileMetadata:
    """Ask the hub once whether it has a model; raise what the hub client raises, or TimeoutError.

    The client's own calls retry for minutes where there is no network, and look up host names without a
    timeout: hence one plain request, in a thread.
    """
    url = hf_hub_url(name, file, revision=revision)
    answer: Future[HfFileMetadata] = Future()

    def ask() -> None:
        try:
            answer.set_result(get_hf_file_metadata(url, timeout=_HUB_SECONDS / 2))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    return answer.result(timeout=_HUB_SECONDS)


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
            return InputError(f"there is no file {name} on the hub")
        return InputError(f"{name} has no config.json on the hub; expected a transformers checkpoint")
    if isinstance(error, OfflineModeIsEnabled):
        return InputError(f"{name} is not in the hub's cache, and HF_HUB_OFFLINE is set; {_LOCAL_HINT}")
    return InputError(f"cannot fetch {name} from the hub ({type(error).__name__}); {_LOCAL_HINT}")
