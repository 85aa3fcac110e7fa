"""ELAN annotation documents (.eaf), format 3.0: https://www.mpi.nl/tools/elan/EAFv3.0.xsd"""

import mimetypes
from collections.abc import Callable
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from zsfuse_ray.reporting.exports.labelled import Recording, Segment
from zsfuse_ray.reporting.exports.lanes import lanes

_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"


def text(recording: Recording) -> str:
    """Return the document of a recording: tiers of labels, confidences and, if any, speakers and texts.

    Times are in milliseconds.
    """
    root = Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "zsfuse_ray",
            "DATE": datetime.now(UTC).isoformat(timespec="seconds"),
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": _INSTANCE,
            "xsi:noNamespaceSchemaLocation": _SCHEMA,
        },
    )
    header = SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    kind = mimetypes.guess_type(recording.uri)[0] or "audio/*"
    SubElement(header, "MEDIA_DESCRIPTOR", MEDIA_URL=_printable(_url(recording.uri)), MIME_TYPE=kind)
    order = SubElement(root, "TIME_ORDER")
    contents: dict[str, Callable[[Segment], str]] = {
        "emotion": lambda one: one.label,
        "confidence": lambda one: f"{one.confidence:.2f}",
    }
    contents |= {
        name: lambda one, name=name: getattr(one, name) or ""
        for name in ("speaker", "text")
        if any(getattr(one, name) for one in recording.segments)
    }
    slots = annotations = 0
    for n, lane in enumerate(lanes(recording.segments), start=1):
        for name, content in contents.items():
            own = name if n == 1 else f"{name} {n}"
            tier = SubElement(root, "TIER", LINGUISTIC_TYPE_REF="default-lt", TIER_ID=own)
            for one in lane:
                annotations += 1
                times = {}
                for which, seconds in (("1", one.start_s), ("2", one.end_s)):
                    slots += 1
                    times[f"TIME_SLOT_REF{which}"] = f"ts{slots}"
                    SubElement(
                        order, "TIME_SLOT", TIME_SLOT_ID=f"ts{slots}", TIME_VALUE=str(round(seconds * 1000))
                    )
                holder = SubElement(tier, "ANNOTATION")
                place = SubElement(
                    holder, "ALIGNABLE_ANNOTATION", {"ANNOTATION_ID": f"a{annotations}"} | times
                )
                SubElement(place, "ANNOTATION_VALUE").text = _printable(content(one))
    SubElement(
        root,
        "LINGUISTIC_TYPE",
        GRAPHIC_REFERENCES="false",
        LINGUISTIC_TYPE_ID="default-lt",
        TIME_ALIGNABLE="true",
    )
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _url(uri: str) -> str:
    return f"file://{uri}" if uri.startswith("/") else uri


def _printable(content: str) -> str:
    """Text without characters that XML cannot contain."""
    return "".join(c if c in "\t\n\r" or (c >= " " and c.isprintable()) else "\ufffd" for c in content)
