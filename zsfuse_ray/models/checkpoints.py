"""Find a checkpoint, in a local folder or on the Hugging Face hub, and load it without running its code."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import (
    HfApi,
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
from transformers.utils import logging

from zsfuse_ray.errors import InputError

_HUB_SECONDS = 8  # how long a hub may take to say whether it has a model
_HASHED_WHOLE = 200_000_000  # bytes of weights up to which a local checkpoint's revision reads them all
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# Models that come with the package: they go by these names wherever a checkpoint is named.
WEIGHTS = Path(str(resources.files("zsfuse_ray"))) / "weights"
SHIPPED = ("mini-alm", "mini-specialist")
_LOCAL_HINT = "name a local folder instead, such as --alm clap:/path/to/folder"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that exists. revision: the hub's commit, or for a local folder a hash of its content.

    folder holds config.json (of which `config` is the content) and, once downloaded, the other files.
    """

    path_or_id: str
    revision: str | None
    licence: str | None
    is_local: bool
    folder: Path
    config: dict[str, Any]


def resolve(checkpoint: str) -> Checkpoint:
    """Return where a checkpoint is: a local folder (or a shipped one), the hub's cache, or the hub.

    The hub is asked for config.json alone.

    Raises InputError, within ten seconds, for one that is missing, gated, unreachable or no checkpoint.
    """
    folder = local_folder(checkpoint)
    is_local = folder.is_dir()
    if is_local and not (folder / "config.json").is_file():
        raise InputError(
            f"{checkpoint} holds no config.json; expected a folder as save_pretrained writes it "
            "(config.json, preprocessor_config.json, model.safetensors)"
        )
    if not is_local:
        if folder.is_absolute() or checkpoint.startswith((".", "~")) or folder.exists():
            raise InputError(f"no such checkpoint folder: {checkpoint}")
        folder = _hub_config(checkpoint).parent
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{checkpoint}: config.json is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{checkpoint}: config.json is not an object")
    revision = _content_hash(folder) if is_local else folder.name
    return Checkpoint(checkpoint, revision, _licence(folder), is_local, folder, config)


def local_folder(checkpoint: str) -> Path:
    """Return the folder that a checkpoint's name stands for, whether it exists or not."""
    return WEIGHTS / checkpoint if checkpoint in SHIPPED else Path(checkpoint).expanduser()


def download(found: Checkpoint) -> Checkpoint:
    """Return the checkpoint with all its files in place; nothing is fetched where they already are."""
    if found.is_local or has_weights(found.folder):
        return found
    name = found.path_or_id
    try:
        _ask_hub(name, found.revision)
        files = HfApi().list_repo_files(name, revision=found.revision)
        weights = "*.safetensors" if any(f.endswith(".safetensors") for f in files) else "*.bin"
        wanted = ["*.json", "*.txt", "README.md", weights]
        folder = Path(snapshot_download(name, revision=found.revision, allow_patterns=wanted))
    except Exception as error:  # the hub client's errors share no base class across its versions
        raise _hub_error(name, error) from error
    return replace(found, folder=folder, licence=_licence(folder))


def load_part(part: Any, found: Checkpoint, **options: Any) -> Any:
    """Return part.from_pretrained of a downloaded checkpoint: no network, no code of the checkpoint's own."""
    with quiet():
        try:
            return part.from_pretrained(
                found.folder, local_files_only=True, trust_remote_code=False, **options
            )
        except Exception as error:  # files from strangers: whatever they make the loader raise
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise InputError(
                f"{found.path_or_id}: {part.__name__} cannot load this checkpoint: {reason}"
            ) from error


def load_model(part: Any, found: Checkpoint, device: str | torch.device) -> Any:
    """Return a model in float32 on the device, ready for inference.

    Raises InputError where weights are missing: transformers would fill them with random numbers.
    """
    model, report = load_part(part, found, dtype=torch.float32, output_loading_info=True)
    parameters = {name for name, _ in model.named_parameters()}
    # masked_spec_embed is for training, and old checkpoints lack it.
    missing = sorted(n for n in parameters & set(report["missing_keys"]) if "masked_spec_embed" not in n)
    if missing:
        raise InputError(
            f"{found.path_or_id}: the weights lack {missing[0]} ({len(missing)} missing in all), "
            f"so it is no {type(model).__name__}"
        )
    return model.eval().requires_grad_(False).to(device)


def _hub_config(name: str) -> Path:
    """Return config.json of a hub model in the hub's cache, fetched if it is not there."""

    try:
        cached = try_to_load_from_cache(name, "config.json")
        if isinstance(cached, str):
            return Path(cached)
        _ask_hub(name)
        return Path(hf_hub_download(name, "config.json"))
    except Exception as error:  # as in download
        raise _hub_error(name, error) from error


def _ask_hub(name: str, revision: str | None = None) -> None:
    """Ask the hub once whether it has a model; raise what the hub client raises, or TimeoutError.

    The client's own calls retry for minutes where there is no network, and look up host names without a
    timeout: hence one plain request, in a thread.
    """
    url = hf_hub_url(name, "config.json", revision=revision)
    answer: Future[object] = Future()

    def ask() -> None:
        try:
            answer.set_result(get_hf_file_metadata(url, timeout=_HUB_SECONDS / 2))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    answer.result(timeout=_HUB_SECONDS)


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
        return InputError(f"{name} has no config.json on the hub; expected a transformers checkpoint")
    if isinstance(error, OfflineModeIsEnabled):
        return InputError(f"{name} is not in the hub's cache, and HF_HUB_OFFLINE is set; {_LOCAL_HINT}")
    return InputError(f"cannot fetch {name} from the hub ({type(error).__name__}); {_LOCAL_HINT}")


def has_weights(folder: Path) -> bool:
    """Whether all weights are there, in one file or in the shards that an index lists."""
    for name in _WEIGHTS:
        index = folder / f"{name}.index.json"
        shards = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else {name}
        if all((folder / shard).is_file() for shard in shards):
            return True
    return False


def _content_hash(folder: Path) -> str:
    """Return 12 hex digits from config.json and the weights: their names, sizes, and content.

    Of large weights 256 evenly spread blocks are read: two trainings of one model differ everywhere.
    """
    digest = sha256((folder / "config.json").read_bytes())
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])
    whole = sum(file.stat().st_size for file in files) < _HASHED_WHOLE
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size};".encode())
        with file.open("rb") as stream:
            for start in range(0, size, 1 << 16 if whole else max(1 << 16, size // 256)):
                stream.seek(start)
                digest.update(stream.read(1 << 16))
    return digest.hexdigest()[:12]


def _licence(folder: Path) -> str | None:
    """Return the licence that README.md's front matter names."""
    readme = folder / "README.md"
    if not readme.is_file():
        return None
    _, opening, rest = readme.read_text(encoding="utf-8", errors="replace")[:100_000].partition("---\n")
    front, closing, _ = rest.partition("\n---")
    try:
        fields = yaml.safe_load(front) if opening and closing else None
    except yaml.YAMLError:
        return None
    licence = fields.get("license") if isinstance(fields, dict) else None
    return ", ".join(map(str, licence)) if isinstance(licence, list) else licence and str(licence)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' notes and progress bars off the screen while a model loads."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
