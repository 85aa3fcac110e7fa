"""Export the labels of a run: a folder for each format."""

from collections.abc import Iterator
from dataclasses import replace

from zsfuse_ray.config.export import ALL, ExportConfig
from zsfuse_ray.config.options import recorded
from zsfuse_ray.errors import InputError, nearest
from zsfuse_ray.reporting.exports.formats import FORMATS, PerRecording, Whole
from zsfuse_ray.reporting.exports.labelled import LabelledRun
from zsfuse_ray.reporting.exports.names import file_name, shared_folder
from zsfuse_ray.runs.folder import Output
from zsfuse_ray.runs.ownership import claim
from zsfuse_ray.runs.provenance import versions

RECORD = "export.json"


def export(config: ExportConfig) -> str:
    """Write the formats that the configuration names; returns the summary to print.

    InputError, before anything is written, for an unknown format, a run without labels, a missing library or
    an output folder with other files of these names.
    """
    names = [*FORMATS] if ALL in config.format else list(dict.fromkeys(config.format))
    for name in names:
        if name not in FORMATS:
            raise InputError(f"--format {name}: no such format{nearest(name, [*FORMATS, ALL])}")
        if isinstance(one := FORMATS[name], Whole):
            one.check()
    run = LabelledRun.open(config.run)
    out = Output.open(config.output or f"{config.run.rstrip('/')}/exports")
    claim(out, record=RECORD, what="export", ours=names, decides=None, overwrite=True)
    for name in names:
        out.delete(name)  # of an earlier export: the archive or its labels may have changed
    out.write_json(RECORD, {"versions": versions(), "config": recorded(config)})
    return "\n".join(_written(run, out, names))


def _written(run: LabelledRun, out: Output, names: list[str]) -> Iterator[str]:
    """Write each format and yield a line that says where; files of recordings in one pass over the tables."""
    single = {name: one for name in names if isinstance(one := FORMATS[name], PerRecording)}
    if single:
        folder, files = shared_folder(run.uris()), 0
        for recording in run.recordings():
            files += 1
            own = file_name(recording.uri, folder)
            for name, one in single.items():
                content = one.text(recording).encode(errors="replace")
                out.write_bytes(f"{name}/{own}{one.suffix}", content)
        for name in single:
            yield f"{name}: {files} files in {out.uri}/{name}"
    for name in names:
        if isinstance(one := FORMATS[name], Whole):
            out.fs.create_dir(out.path(name), recursive=True)
            one.write(run, replace(out, uri=f"{out.uri}/{name}", root=out.path(name)))
            yield f"{name}: {out.uri}/{name}"
