"""Label Studio: tasks with the labels as predictions, to be corrected there, and the labelling interface.

https://labelstud.io/guide/predictions
"""

import json
from xml.sax.saxutils import quoteattr

from zsfuse_ray.reporting.exports.labelled import LabelledRun, Recording
from zsfuse_ray.runs.folder import Output


def write(run: LabelledRun, out: Output) -> None:
    """Write tasks.json, a task a recording, and interface.xml.

    Label Studio must be able to fetch the audio: s3:// and https:// as they are, local files through its
    storage of local files.
    """
    labels = "".join(f"<Label value={quoteattr(label)}/>" for label in run.labels)
    interface = (
        f'<View><Labels name="label" toName="audio">{labels}</Labels>'
        '<Audio name="audio" value="$audio"/></View>\n'
    )
    out.write_bytes("interface.xml", interface.encode())
    with out.fs.open_output_stream(out.path("tasks.json")) as file:
        file.write(b"[")
        for n, recording in enumerate(run.recordings()):
            task = json.dumps(_task(recording, run.models), ensure_ascii=False, allow_nan=False)
            file.write(f"{',' if n else ''}\n{task}".encode(errors="replace"))
        file.write(b"\n]\n")


def _task(recording: Recording, models: str) -> dict:
    result = [
        {
            "id": f"s{n}",
            "from_name": "label",
            "to_name": "audio",
            "type": "labels",
            "original_length": round(recording.duration_s, 4),
            "score": round(one.confidence, 4),
            "value": {
                "start": one.start_s,
                "end": one.end_s,
                "channel": one.channel or 0,
                "labels": [one.label],
            },
        }
        for n, one in enumerate(recording.segments)
    ]
    mean = sum(one.confidence for one in recording.segments) / max(1, len(recording.segments))
    prediction = {"model_version": models, "score": round(mean, 4), "result": result}
    return {"data": {"audio": recording.uri}, "predictions": [prediction]}
