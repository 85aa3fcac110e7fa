"""The head of ``--head`` on the specialist that it was fitted on."""

from collections.abc import Mapping

from zsfuse_ray.archive.heads import SavedHead, facts_of_spec, head_of
from zsfuse_ray.archive.table import EncodedTable
from zsfuse_ray.config.labelled import LabelledOptions
from zsfuse_ray.errors import InputError
from zsfuse_ray.experiments.clips import kind_of
from zsfuse_ray.models.catalog import parse_spec


def fitted_heads(
    config: LabelledOptions, names: Mapping[str, str], table: EncodedTable | None
) -> dict[str, SavedHead]:
    """Return the head by the key of its specialist, empty without ``--head``.

    names: of the models, by their keys in tables. Of several specialists in a table, it is that of its own;
    the others stay as they are. InputError if none is.
    """
    if config.head is None:
        return {}
    error = InputError("--head needs the specialist that it was fitted on; there is none")
    for key in (key for key in names if kind_of(key) == "specialist"):
        facts = facts_of_spec(parse_spec(names[key], "specialist")) if table is None else table.models[key]
        try:
            if saved := head_of(config, facts):
                return {key: saved}
        except InputError as one:
            error = one
    raise error
