"""The result of a finished run over an archive: its record and its tables."""

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
        """The segments table, one row per segment; ``embed`` writes none."""
        return self._frame(SEGMENTS)

    def recordings(self) -> "pd.DataFrame":
        """The recordings table, one row per recording."""
        return self._frame(RECORDINGS)

    def rejects(self) -> "pd.DataFrame":
        """The rejects table, one row per recording or item that gave no segments."""
        return self._frame(REJECTS)

    def _frame(self, table: str) -> "pd.DataFrame":
        return self.out.read_table(table).to_pandas()
