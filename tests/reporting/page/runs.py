"""Runs on disk with the tables of score, for pages."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile

from zsfuse_ray.runs.folder import Output

LABELS = ("happy", "sad", "calm")


def segments_of(uri: str, n: int, seed: int) -> pa.Table:
    """n segments of 5 s, one every 6 s."""
    rng = np.random.default_rng(seed)
    start = np.arange(n) * 6.0
    table: dict = {"recording_uri": [uri] * n, "start_s": start, "end_s": start + 5}
    fused = rng.dirichlet(np.ones(3), n)
    table["label"] = [LABELS[k] for k in fused.argmax(axis=1)]
    table["confidence"] = fused.max(axis=1).astype(np.float32)
    for kind, shares in (("p", fused), ("specialist", rng.dirichlet(np.ones(3), n)), ("alm", fused)):
        for label, share in zip(LABELS, shares.T, strict=True):
            table[f"{kind}_{label}"] = share.astype(np.float32)
    return pa.table(table)


def write_run(folder: Path, uris: dict[str, int]) -> Path:
    """A complete run over recordings, URI → number of segments."""
    out = Output.open(str(folder))
    tables = [segments_of(uri, n, seed) for seed, (uri, n) in enumerate(uris.items())]
    rows = [
        {
            "recording_uri": uri,
            "duration_s": 6.0 * n,
            "speech_s": 5.0 * n,
            "n_segments": n,
            "dominant_label": "sad" if n else None,
            "mean_confidence": 0.5 if n else None,
            "arc": ["sad", None] * 5 if n else [None] * 10,
        }
        for uri, n in uris.items()
    ]
    out.write_table("segments/part-000000.parquet", pa.concat_tables(tables))
    out.write_table("recordings/part-000000.parquet", pa.Table.from_pylist(rows))
    bad = {
        "recording_uri": "/x/<img src=x onerror=alert(1)>.wav",
        "reason": "not_a_recording",
        "message": "<b>no</b>",
    }
    out.write_table("rejects/part-000000.parquet", pa.Table.from_pylist([bad]))
    hours = sum(uris.values()) * 5 / 3600
    counts = {
        "audio_hours": hours,
        "speech_hours": hours,
        "recordings": len(uris),
        "segments": sum(uris.values()),
    }
    counts |= {"rejects": {"not_a_recording": 1}, "label_shares": {"happy": 0.5, "sad": 0.25, "calm": 0.25}}
    config = {"input": str(folder / "audio"), "labels": list(LABELS), "unsure_below": 0.0}
    facts = {"model": "clap:x", "revision": None, "licence": "mit", "trained_on": ["emodb"]}
    record = {"versions": {"zsfuse_ray": "1"}, "config": config, "models": {"alm": facts}, "counts": counts}
    out.write_json("run.json", record | {"status": "complete", "digest": "0123"})
    return folder


def write_audio(path: Path, seconds: float) -> None:
    """A WAV file of a rising tone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(16000 * seconds)) / 16000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * (200 + 5 * time) * time), 16000)
