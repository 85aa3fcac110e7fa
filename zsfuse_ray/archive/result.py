"""What a finished run over an archive returns: its record and its tables."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zsfuse_ray.archive.layout import RECORDINGS, SEGMENTS
from zsfuse_ray.runs.folder import REJECTS
from zsfuse_ray.runs.result import Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RunResult(Result):
    """A finished ``score`` or ``embed``; the record is that of run.json."""

    def segments(self) -> "pd.DataFrame":
        """The segments table, a row a segment; ``embed`` makes none."""
        return self._frame(SEGMENTS)

    def recordings(self) -> "pd.DataFrame":
        """The recordings table, a row a recording."""
        return self._frame(RECORDINGS)

    def rejects(self) -> "pd.DataFrame":
        """The rejects table, a row for everything that did not become segments."""
        return self._frame(REJECTS)

    def _frame(self, table: str) -> "pd.DataFrame":
        return self.out.dataset(table).to_table().to_pandas()
