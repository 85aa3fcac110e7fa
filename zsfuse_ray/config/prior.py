"""The wanted shares of the labels of an archive, for ``--prior``."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zsfuse_ray.config.options import text_of, yaml_mapping
from zsfuse_ray.errors import InputError, nearest

ROUNDING = 0.02  # how far shares may be from 1 in sum: seven of two digits each


def read_shares(file: str, labels: Sequence[str]) -> dict[str, float]:
    """Shares by label, as of `check_shares`, from a YAML file that maps each label to its share."""
    name = f"--prior {file}"
    if not Path(file).exists():
        raise InputError(f"{name}: no such file; give none, uniform or a YAML file of the labels' shares")
    return check_shares(yaml_mapping(text_of("--prior", file), name, "labels to shares"), labels, name)


def check_shares(values: Mapping[Any, Any], labels: Sequence[str], source: str) -> dict[str, float]:
    """Return the share of each label, above 0, sum 1, in the order of the labels.

    values: shares that sum to 1, or percentages that sum to 100, within rounding. InputError for a label that
    is unknown or missing, a share that is not above 0, and another sum.
    """
    given = {str(name).strip().lower(): value for name, value in values.items()}
    for name, value in given.items():
        if name not in labels:
            raise InputError(f"{source}: unknown label {name}{nearest(name, labels)}")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and math.isfinite(value) and value > 0):
            raise InputError(
                f"{source}: the share of {name} must be a number above 0, not {value}; leave a label that "
                "does not occur out of --labels"
            )
    if missing := [label for label in labels if label not in given]:
        raise InputError(f"{source}: no share for {', '.join(missing)}; name every label of --labels")
    total = math.fsum(given.values())
    whole = next((whole for whole in (1.0, 100.0) if abs(total / whole - 1) <= ROUNDING), None)
    if whole is None:
        raise InputError(
            f"{source}: the shares sum to {total:g}; give shares that sum to 1 or percentages that sum to 100"
        )
    if abs(total - 1) < 1e-9:  # so that shares which were checked before remain the same
        total = 1.0
    return {label: given[label] / total for label in labels}
