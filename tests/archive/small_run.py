"""The rows of a small run: five recordings, each another case."""

import numpy as np

LABELS = ("angry", "pleasant surprise", "sad")
COLUMNS = ("angry", "pleasant_surprise", "sad")
PARTS = {"specialist": ("angry", "sad"), "alm": LABELS}  # this specialist knows no surprise
ITEM_S = 20.0
SECRET = "hunter2"


def planned_rows() -> list[dict]:
    """Five recordings: a long one, a slice, a silent one, one that breaks in decoding, an unreadable one."""
    rows = []
    for n, (duration, start, end, reason) in enumerate(
        [(50.0, None, None, None), (90.0, 30.0, 45.0, None), (8.0, None, None, None), (9.0, None, None, None),
         (None, None, None, "corrupt")]
    ):  # fmt: skip
        row = {"recording_id": n, "uri": f"https://me:{SECRET}@host/{n}.wav?token={SECRET}", "start_s": start}
        row |= {"end_s": end, "size": None, "emotion": f"e{n}", "label": f"theirs {n}"}
        row |= {"probe_duration_s": duration, "probe_exact": True, "probe_reason": reason}
        rows.append(row | {"probe_message": reason and "it broke"})
    return rows


def posterior(rng: np.random.Generator) -> list[float]:
    return rng.dirichlet(np.ones(len(LABELS))).astype(np.float32).tolist()


def scored_rows(bundles: list[dict], rng: np.random.Generator) -> list[dict]:
    """SCORED rows as a run would write them: segments that start in their items, 0 to 4 in each."""
    rows = []
    for bundle in bundles:
        done, segments = [], []
        for item in bundle["items"]:
            outcome = {"item_id": item["item_id"], "recording_id": item["recording_id"], "audio_s": 0.0}
            if item["recording_id"] == 3:
                done.append(outcome | {"stage": "decode", "reason": "corrupt", "message": "no frame"})
                continue
            length = item["end_s"] - item["start_s"]
            done.append(outcome | {"audio_s": length, "stage": None, "reason": None, "message": None})
            count = 0 if item["recording_id"] == 2 else int(rng.integers(1, 5))
            for start in np.sort(rng.uniform(item["start_s"], item["end_s"], count)):
                start_s, seconds = float(item["slice_start_s"] + start), float(rng.uniform(0.5, 4))
                p = posterior(rng)
                segment = {"item_id": item["item_id"], "start_s": start_s, "end_s": start_s + seconds}
                segment |= {"speech_prob": 0.9, "samples": int(seconds * 8000), "sample_rate": 8000}
                segment |= {"label": LABELS[int(np.argmax(p))], "confidence": max(p), "entropy": 0.5, "p": p}
                segments.append(segment | {"specialist": posterior(rng), "alm": posterior(rng)})
        rows.append({"bundle_id": bundle["bundle_id"], "items": done, "segments": segments})
        rows[-1]["encoder_inputs"] = len(segments) + 1
    return rows


def every_segment(rows: list[dict]) -> list[tuple[int, dict]]:
    """(recording, segment) of all rows, by recording and time."""
    owner = {item["item_id"]: item["recording_id"] for row in rows for item in row["items"]}
    found = [(owner[segment["item_id"]], segment) for row in rows for segment in row["segments"]]
    return sorted(found, key=lambda pair: (pair[0], pair[1]["start_s"]))
