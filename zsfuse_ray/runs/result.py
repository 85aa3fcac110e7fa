"""The return value of a finished verb; the command prints it."""

from dataclasses import dataclass, field
from typing import Any

from zsfuse_ray.runs.folder import Output


@dataclass(frozen=True)
class Result:
    """An output folder and the content of its JSON record: run.json, tune.json, …"""

    out: Output
    record: dict[str, Any] = field(repr=False)

    @property
    def uri(self) -> str:
        """The output folder's path or URI."""
        return self.out.uri
