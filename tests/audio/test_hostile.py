"""Real odd files and thousands of mutations: each is read or rejected, in bounded time and memory.

`-s` prints the figures; `-m long` reads 20,000 mutations.
"""

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.audio.mutations import KINDS, Mutant, mutant, sound_files
from zsfuse_ray.audio import isolated
from zsfuse_ray.audio.decode import DecodeError
from zsfuse_ray.audio.durations import LONGEST_S

FEW, MANY = 2_000, 20_000
ITEM_S = 300.0
# Limits for one file of seconds: its time on a busy machine, bytes beyond the idle child, and its growth.
LONGEST_CALL_S, MOST_MEMORY, MOST_LEAKED = 20.0, 400 << 20, 200 << 20
# Not among them: crashed, timeout, decoder_error. out_of_memory: the limit holds, and ends only the child.
REASONS = {
    "corrupt",
    "empty",
    "no_audio_stream",
    "not_audio",
    "unsupported",
    "too_many_channels",
    "out_of_memory",
}


@dataclass
class Figures:
    """What became of the files. outcomes: by kind of mutation; problems: files to look at."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    children: set[int] = field(default_factory=set)
    slowest_s: float = 0.0
    slowest: str = ""
    most_memory: int = 0
    greediest: str = ""
    longest_s: float = 0.0
    leaked: int = 0

    def __str__(self) -> str:
        total = sum((counts for counts in self.outcomes.values()), Counter())
        rows = [f"\n{total.total()} files: {dict(total.most_common())}"]
        rows += [f"{kind}: {dict(counts.most_common())}" for kind, counts in self.outcomes.items()]
        rows += [f"slowest {self.slowest_s:.2f} s ({self.slowest}), {len(self.children)} child processes"]
        rows += [f"most memory {self.most_memory / 1e6:.0f} MB ({self.greediest})"]
        rows += [f"child grew by {self.leaked / 1e6:.0f} MB; longest duration {self.longest_s:.0f} s"]
        return "\n".join(rows)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Sound files of every format."""
    return sound_files(tmp_path_factory.mktemp("sound"))


def memory(name: str) -> int:
    """A size of the child from its status, in bytes; 0 if it has ended."""
    process = isolated._CHILD._process
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines() if process else []
    except FileNotFoundError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def forget_peak() -> None:
    """Let the child's peak memory start anew."""
    process = isolated._CHILD._process
    if process:
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def outcome(path: Path, figures: Figures) -> Iterator[str]:
    """Probe a file, decode its first and last item and a slice; yields what is wrong with the results."""
    header = isolated.probe(str(path))
    figures.longest_s = max(figures.longest_s, header.duration_s)
    if not 0 <= header.duration_s <= LONGEST_S or math.isnan(header.duration_s):
        yield f"a duration of {header.duration_s}"
    if not 0 < header.sample_rate < 1 << 31:
        yield f"a rate of {header.sample_rate}"
    slices: list[tuple[float, float | None]] = [(0.0, ITEM_S), (0.3, 0.5)]
    slices += [(header.duration_s - ITEM_S, None)] if header.duration_s > ITEM_S else []
    for start, end in slices:
        try:
            pcm = isolated.decode(str(path), start, end, max_s=3 * ITEM_S)
        except DecodeError:
            if start == 0.0:
                raise
            continue
        if pcm.samples.dtype != np.int16 or not 2_000 <= pcm.sample_rate <= 48_000:
            yield f"{pcm.samples.dtype} at {pcm.sample_rate} Hz"
        longest = 3 * ITEM_S if end is None else end - start
        if len(pcm.samples) > longest * pcm.sample_rate + 1:
            yield f"{len(pcm.samples)} samples of [{start}, {end})"


def read_all(files: Iterable[Mutant], folder: Path) -> Figures:
    """Read every file in the child and note what happens."""
    figures = Figures()
    isolated.warm_up()
    idle, at_rest, child = memory("VmRSS"), 0, None
    for number, one in enumerate(files):
        path = folder / f"{number}{Path(one.source).suffix}"
        path.write_bytes(one.body)
        label = f"{one.kind} {one.number} of {one.source}"
        forget_peak()
        started = time.monotonic()
        try:
            figures.problems += [f"{label}: {problem}" for problem in outcome(path, figures)]
            what = "decoded"
        except DecodeError as error:
            what = error.reason
            if what not in REASONS:
                figures.problems.append(f"{label}: {what}: {error}")
        took_s, used = time.monotonic() - started, memory("VmHWM") - idle
        figures.outcomes.setdefault(one.kind, Counter())[what] += 1
        process = isolated._CHILD._process
        figures.children |= {process.pid} if process else set()
        if took_s > figures.slowest_s:
            figures.slowest_s, figures.slowest = took_s, label
        if used > figures.most_memory:
            figures.most_memory, figures.greediest = used, label
        if took_s > LONGEST_CALL_S or used > MOST_MEMORY:
            figures.problems.append(f"{label}: {took_s:.1f} s, {used / 1e6:.0f} MB")
        now = process.pid if process else None
        if now != child:
            child, at_rest, since = now, 0, number
        elif number == since + 100:  # its caches are full
            at_rest = memory("VmRSS")
        elif at_rest:
            figures.leaked = max(figures.leaked, memory("VmRSS") - at_rest)
        path.unlink()
    print(figures)
    return figures


def sound(figures: Figures) -> None:
    """Fail if a file was not simply read or rejected."""
    assert not figures.problems, "\n".join(figures.problems[:20])
    assert figures.leaked < MOST_LEAKED


def test_mutations_are_remade_from_their_seed(sources: dict[str, bytes]) -> None:
    made = [mutant(sources, 5, number) for number in range(400)]
    assert made == [mutant(sources, 5, number) for number in range(400)]
    assert made != [mutant(sources, 6, number) for number in range(400)]
    assert {one.kind for one in made} == set(KINDS)
    assert {one.source for one in made} == set(sources)
    changed = [one for one in made if one.body != sources[one.source]]
    assert len(changed) > 0.9 * len(made)


def test_mutations_cost_only_themselves(sources: dict[str, bytes], tmp_path: Path) -> None:
    figures = read_all((mutant(sources, 0, number) for number in range(FEW)), tmp_path)
    sound(figures)
    assert sum(counts["decoded"] for counts in figures.outcomes.values()) > FEW // 4, "mostly noise"


@pytest.mark.long
def test_many_mutations_cost_only_themselves(
    sources: dict[str, bytes], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Of real odd files too, where there are any."""
    shared = request.getfixturevalue("shared")
    real = {path.name: path.read_bytes() for path in odd(shared) if path.stat().st_size < 300_000}
    sound(read_all((mutant(sources | real, 1, number) for number in range(MANY)), tmp_path))


def test_odd_files_are_read_or_rejected(shared: Path, tmp_path: Path) -> None:
    files = (Mutant(n, "as it is", path.name, path.read_bytes()) for n, path in enumerate(odd(shared)))
    sound(read_all(files, tmp_path))


def odd(shared: Path) -> list[Path]:
    """Real files that are odd in some way."""
    return sorted(path for name in ("odd", "cases") for path in (shared / name).rglob("*") if path.is_file())
