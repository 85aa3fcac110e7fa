"""Names in the output folder of a run over an archive."""

from zsfuse_ray.runs.folder import REJECTS, Output
from zsfuse_ray.runs.ownership import claim

PLAN = "plan/plan.json"
ENCODED, PASSES = "encoded", "encoded/encoded.json"
SEGMENTS, RECORDINGS = "segments", "recordings"
LABELLED = "labelled"  # the counts of each part whose tables are written, one file per part
PRIOR = f"{LABELLED}/prior.json"  # the biases of --prior
RUN = "run.json"
TABLES = (SEGMENTS, RECORDINGS, REJECTS, LABELLED)
OURS = ("plan", ENCODED, *TABLES)


def plan_file(increment: int, name: str) -> str:
    """Name of a table of one increment of the plan: recordings, bundles or dropped."""
    return f"plan/{increment:03}/{name}.parquet"


def part_file(table: str, part: int) -> str:
    """Name of a part's file of segments, recordings or rejects."""
    return f"{table}/part-{part:06}.parquet"


def clear(out: Output) -> None:
    """Delete a run's tables and nothing else in the folder; InputError if no run wrote them."""
    if out.read_json(PLAN) is None:  # tables labelled from another output's embeddings have no plan
        claim(out, record=RUN, what="run", ours=OURS, decides=None, overwrite=True)
    for name in (RUN, *OURS):
        out.delete(name)
