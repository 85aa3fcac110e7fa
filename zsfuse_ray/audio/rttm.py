"""Read the turns of speakers from RTTM.

RTTM: https://www.nist.gov/system/files/documents/itl/iad/mig/KWS15-evalplan-v05.pdf, appendix A; as pyannote,
NeMo and Kaldi write it.
"""

import logging
import math
from collections.abc import Sequence

import pyarrow as pa

from zsfuse_ray.audio.sidecars import list_sidecars, match_names, read_sidecar
from zsfuse_ray.audio.turns import Turn
from zsfuse_ray.errors import InputError, redact_uri
from zsfuse_ray.stores import url_path

log = logging.getLogger(__name__)

OPTION = "--speakers"
TURN = pa.struct([("start_s", pa.float64()), ("end_s", pa.float64()), ("speaker", pa.string())])


def read_turns(place: str, uris: Sequence[str]) -> pa.Array:
    """Return the turns of each recording, lists of TURN by start, null for one without.

    place: an RTTM file of any number of recordings, or a folder of one file per recording. InputError for
    a file that cannot be read, and if it has turns of none of the recordings.
    """
    if url_path(place).lower().endswith(".rttm"):
        found = parse_rttm(read_sidecar(place, OPTION), place)
        own = match_names(uris, found, OPTION)
    else:
        files = list_sidecars(place, (".rttm",), OPTION)
        own = match_names(uris, files, OPTION)
        found = {name: _all_turns(files[name].uri) for name in sorted(set(own.values()))}
    if not own:
        names = ", ".join(sorted(found or files)[:3])
        raise InputError(f"{OPTION} {redact_uri(place)}: no recording has one of its names ({names} …)")
    if others := sum(uri not in own for uri in uris):
        log.warning(f"warning: {OPTION}: {others} of {len(uris)} recordings have no turns; speaker is empty")
    rows = [[vars(turn) for turn in found[own[uri]]] if uri in own else None for uri in uris]
    return pa.array(rows, pa.list_(TURN))


def _all_turns(uri: str) -> list[Turn]:
    return sorted(turn for turns in parse_rttm(read_sidecar(uri, OPTION), uri).values() for turn in turns)


def parse_rttm(text: str, where: str) -> dict[str, list[Turn]]:
    """Return the turns of each recording, by start; lines of other types than SPEAKER are ignored.

    InputError, with the line, for one that is not RTTM.
    """
    found: dict[str, list[Turn]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            _, name, _, start, length, _, _, speaker, *_ = fields
            turn = Turn(float(start), float(start) + float(length), speaker)
        except ValueError:
            turn = Turn(math.nan, math.nan, "")
        if not 0 <= turn.start_s <= turn.end_s < math.inf:
            raise InputError(f"{OPTION} {redact_uri(where)}: line {number} is not RTTM: {line[:80]}")
        if turn.end_s > turn.start_s:
            found.setdefault(name, []).append(turn)
    return {name: sorted(turns) for name, turns in found.items()}
