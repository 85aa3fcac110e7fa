"""Find a checkpoint: local folder, object store, hub cache or hub."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from zsfuse_ray.errors import InputError
from zsfuse_ray.models.checkpoints.hub import FILES, find_file, hub_config, hub_file
from zsfuse_ray.models.checkpoints.store import is_stored, mirrored

_HASHED_WHOLE = 200_000_000  # bytes; up to this size, weights are hashed completely for a local revision
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# First bytes of the small files that git has in place of large ones.
_POINTERS = {
    b"version https://git-lfs": "a Git LFS pointer",
    b"version https://hawser": "a Git LFS pointer",
    b"/annex/objects/": "a git-annex pointer",
}
_LARGEST_POINTER = 1024  # bytes
# A JSON string, or a product of two to four integers that is not part of something else.
_PRODUCT = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\w.*])\d{1,9}(?:\s*\*\s*\d{1,9}){1,3}(?!\s*[\w.*])')
# Models shipped with the package; these names are valid wherever a checkpoint is named.
WEIGHTS = Path(str(resources.files("zsfuse_ray"))) / "weights"
SHIPPED = ("mini",)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that exists. revision: the hub's commit, or a hash of the content of a local folder.

    folder contains config.json (parsed: `config`) and, once downloaded, the other files. A checkpoint that
    is a single file of weights, as published by its authors, has an empty config; `file` is its path once
    downloaded.
    """

    path_or_id: str
    revision: str | None
    licence: str | None
    is_local: bool
    folder: Path
    config: dict[str, Any]
    file: Path | None = None
    trained_on: tuple[str, ...] = ()  # data sets named in the model card

    @property
    def weights(self) -> Path:
        """The single file with the weights; InputError if there is none."""
        known = [self.file] if self.file else [self.folder / name for name in _WEIGHTS]
        weights = next((file for file in known if file.is_file()), None)
        if weights is None:
            raise InputError(f"{self.path_or_id} contains no weights ({' or '.join(_WEIGHTS)})")
        return weights


def resolve(checkpoint: str) -> Checkpoint:
    """Locate a checkpoint: a local or shipped folder, a cache, or the hub.

    A single file of weights (.pt, .pth) is named by its path, by a folder that contains only this file, or on
    the hub as OWNER/NAME/FILE. Only config.json, or the file's metadata, is requested from the hub.

    Raises InputError, within ten seconds, if it is missing, gated, unreachable or not a checkpoint.
    """
    folder = local_folder(checkpoint)
    check_pointers(folder, checkpoint)
    if file := _local_file(folder):
        licence, data = card_of(file.parent)
        return Checkpoint(checkpoint, _hash([file]), licence, True, file.parent, {}, file, data)
    if place := hub_file(checkpoint):
        commit, file = find_file(checkpoint, *place)
        return Checkpoint(checkpoint, commit, None, False, file.parent if file else Path(), {}, file)
    is_local = folder.is_dir()
    if is_local and not (folder / "config.json").is_file():
        raise InputError(
            f"{checkpoint} contains no config.json; expected a folder written by save_pretrained "
            "(config.json, preprocessor_config.json, model.safetensors), or one with a .pt or .pth file"
        )
    if not is_local:
        if _is_folder_name(checkpoint, folder):
            raise InputError(f"no such checkpoint folder: {checkpoint}{_nearest_path(folder)}")
        folder = hub_config(checkpoint).parent
    try:
        config = _parsed((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{checkpoint}: config.json is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{checkpoint}: config.json is not an object")
    revision = _hash([folder / "config.json", *_weight_files(folder)]) if is_local else folder.name
    licence, data = card_of(folder)
    return Checkpoint(checkpoint, revision, licence, is_local, folder, config, trained_on=data)


def _parsed(text: str) -> Any:
    """Return the content of config.json; ValueError if it is not JSON.

    Older Odyssey baselines ("ser") have a product instead of a number: "maxlen": 12*16000.
    """
    try:
        return json.loads(text)
    except ValueError:
        try:
            config = json.loads(_PRODUCT.sub(_multiplied, text))
        except ValueError:
            config = None
        if isinstance(config, dict) and config.get("model_type") == "ser":
            return config
        raise


def _multiplied(product: re.Match[str]) -> str:
    text = product.group()
    return text if text.startswith('"') else str(math.prod(map(int, text.split("*"))))


def local_folder(checkpoint: str) -> Path:
    """Return the folder of a checkpoint's name, whether it exists or not.

    A checkpoint in an object store is first copied into a cache; InputError if it is missing.
    """
    if is_stored(checkpoint):
        return mirrored(checkpoint)
    return WEIGHTS / checkpoint if checkpoint in SHIPPED else Path(checkpoint).expanduser()


def _is_folder_name(checkpoint: str, folder: Path) -> bool:
    """Return whether a name that is not a folder must be a mistyped one, not a hub id (OWNER/NAME)."""
    if folder.is_absolute() or checkpoint.startswith((".", "~")) or folder.exists():
        return True
    parts = folder.parts
    return len(parts) > 2 or (len(parts) == 2 and Path(parts[0]).is_dir()) or _near_names(folder) != []


def _near_names(path: Path) -> list[str]:
    names = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
    return get_close_matches(path.name, names, n=1, cutoff=0.75)


def _nearest_path(path: Path) -> str:
    """Return a hint for a missing path: a folder with a similar name, or the last part that exists."""
    while not path.parent.exists():
        path = path.parent
    if near := _near_names(path):
        return f" (did you mean {path.parent / near[0]}?)"
    return f" ({path.parent} exists, but contains no {path.name})"


def _local_file(path: Path) -> Path | None:
    """Return the file of weights: the path itself, or the only one in a folder without config.json."""
    if path.is_file():
        return path if path.name.endswith(FILES) else None
    if not path.is_dir() or (path / "config.json").is_file():
        return None
    inside = [file for file in path.iterdir() if file.name.endswith(FILES)]
    return inside[0] if len(inside) == 1 else None


def check_pointers(place: Path, name: str) -> None:
    """Raise InputError if a file, or one of a folder's, is a pointer in place of its content."""
    for file in sorted(place.iterdir()) if place.is_dir() else [place]:
        kind = None
        if file.is_symlink() and not file.exists():
            kind = "a link to content that is missing"
        elif file.is_file() and file.stat().st_size <= _LARGEST_POINTER:
            start = file.read_bytes().lstrip()
            kind = next((kind for known, kind in _POINTERS.items() if start.startswith(known)), None)
        if kind is not None:
            raise InputError(
                f"{name}: {file.name} is {kind}, not the file itself; download it with git lfs pull (or git "
                "annex get, hf download), or copy it from where it was made"
            )


def has_weights(folder: Path) -> bool:
    """Return whether all weights are present, in one file or in the shards listed by an index."""
    for name in _WEIGHTS:
        index = folder / f"{name}.index.json"
        shards = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else {name}
        if all((folder / shard).is_file() for shard in shards):
            return True
    return False


def _weight_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])


def _hash(files: Sequence[Path]) -> str:
    """Return a hash of 12 hex digits of the files' content, and of the names and sizes of weights.

    Of large weights only 256 evenly spaced blocks are read: two trainings of a model differ everywhere.
    """
    digest = sha256()
    weights = [file for file in files if file.name != "config.json"]
    whole = sum(file.stat().st_size for file in weights) < _HASHED_WHOLE
    for file in files:
        if file not in weights:
            digest.update(file.read_bytes())
            continue
        size = file.stat().st_size
        digest.update(f"{file.name}:{size};".encode())
        with file.open("rb") as stream:
            for start in range(0, size, 1 << 16 if whole else max(1 << 16, size // 256)):
                stream.seek(start)
                digest.update(stream.read(1 << 16))
    return digest.hexdigest()[:12]


def card_of(folder: Path) -> tuple[str | None, tuple[str, ...]]:
    """Return the licence and the names of the data sets in README.md's front matter.

    For the licence "other" it is license_name, as on the hub.
    """
    fields = _front_matter(folder / "README.md")
    licence = fields.get("license")
    if licence == "other":
        licence = fields.get("license_name") or licence
    if isinstance(licence, list):
        licence = ", ".join(map(str, licence))
    data = fields.get("datasets") or ()
    names = tuple(map(str, data)) if isinstance(data, list) else (str(data),) if data else ()
    return str(licence) if licence else None, names


def _front_matter(readme: Path) -> dict[str, Any]:
    if not readme.is_file():
        return {}
    _, opening, rest = readme.read_text(encoding="utf-8", errors="replace")[:100_000].partition("---\n")
    front, closing, _ = rest.partition("\n---")
    try:
        fields = yaml.safe_load(front) if opening and closing else None
    except yaml.YAMLError:
        return {}
    return fields if isinstance(fields, dict) else {}
