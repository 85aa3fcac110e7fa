"""Access to the Hugging Face hub: a single request first, with a timeout, and one-line errors."""

import json
import logging
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from huggingface_hub import (
    HfApi,
    HfFileMetadata,
    constants,
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

log = logging.getLogger(__name__)

_SMALL = ("*.json", "*.txt", "*.model", "README.md")  # patterns of all files of a model except weights
_OF_TOKENIZER = ("tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "config.json", "*.model")
_INCOMPLETE: set[Path] = set()  # folders that this process could not complete, and uses as they are
_HUB_SECONDS = 8  # timeout of the request whether a model exists
_LOCAL_HINT = "use a local folder instead, such as --alm clap:/path/to/folder"
# Models whose weights have the names known here in one revision: it is loaded instead of the newest.
_PINNED = {"yfyeung/CLSP": "30355ce67960e4cc1562e4e5fa154baf86a21430"}
FILES = (".pt", ".pth", ".pth.tar", ".ckpt", ".safetensors")  # single files of weights


def hub_config(name: str) -> Path:
    """Return config.json of a hub model in the hub's cache, downloaded if missing."""
    revision = _PINNED.get(name)
    try:
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
        if isinstance(cached, str):
            return Path(cached)
        _request(name, revision)
        return Path(hf_hub_download(name, "config.json", revision=revision))
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
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*_SMALL, weights]))
        _remember(name, folder, files)
        return folder
    except Exception as error:  # the hub client's errors share no base class across its versions
        raise _hub_error(name, error) from error


def is_complete(name: str, folder: Path, patterns: Sequence[str] = _SMALL) -> bool:
    """Return whether a cached model has all small files, of these patterns, that it has on the hub.

    A download by another tool, or one that was interrupted, may lack some. The hub is asked once; if it
    cannot be reached, whatever is cached counts as complete.
    """
    wanted = (file for file in _listed(name, folder) if any(fnmatch(file, one) for one in patterns))
    return folder in _INCOMPLETE or all((folder / file).is_file() for file in wanted)


@cache
def _listed(name: str, folder: Path) -> tuple[str, ...]:
    """Files of a hub model at the commit of a cached folder; () if they cannot be known."""
    place = _list_of(folder)
    if place.is_file():
        return tuple(json.loads(place.read_text(encoding="utf-8")))
    if constants.HF_HUB_OFFLINE:
        return ()
    try:
        _request(name, folder.name)
        files = HfApi().list_repo_files(name, revision=folder.name)
    except Exception as error:  # see `snapshot`
        log.info(f"cannot check whether the cached {name} is complete: {_hub_error(name, error)}")
        return ()
    _remember(name, folder, files)
    return tuple(files)


def _list_of(folder: Path) -> Path:
    """Where the list of a model's files is kept: beside the folder of its commit in the hub's cache."""
    return folder.parent.parent / f".zsfuse_files-{folder.name}.json"


def _remember(name: str, folder: Path, files: Iterable[str]) -> None:
    try:
        _list_of(folder).write_text(json.dumps(sorted(files)), encoding="utf-8")
    except OSError as error:  # a shared cache may be read-only: the hub is asked again by the next process
        log.debug(f"{name}: {error}")


def fetch_tokenizer(name: str) -> Path:
    """Return a folder with the tokenizer of a hub model, downloaded without the weights if missing.

    Raises InputError, within ten seconds, if the hub cannot be reached.
    """
    folder: Path | None = None
    try:
        cached = (
            try_to_load_from_cache(name, file) for file in ("tokenizer.json", "vocab.json", "vocab.txt")
        )
        folder = next((Path(path).parent for path in cached if isinstance(path, str)), None)
        if folder is not None and is_complete(name, folder, _OF_TOKENIZER):
            return folder
        _request(name)
        whole = Path(snapshot_download(name, allow_patterns=list(_OF_TOKENIZER)))
        _remember(name, whole, HfApi().list_repo_files(name, revision=whole.name))
        return whole
    except Exception as error:  # see `snapshot`
        if folder is None:
            raise _hub_error(name, error) from error
        return incomplete(name, folder, _hub_error(name, error))


def incomplete(name: str, folder: Path, error: InputError) -> Path:
    """Return a cached folder that lacks files as it is, with a warning: it may be enough."""
    _INCOMPLETE.add(folder)
    log.warning(f"warning: the cached {name} lacks files that it has on the hub: {error}")
    return folder


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
