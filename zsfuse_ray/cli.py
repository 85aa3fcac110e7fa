"""``zsfuse VERB``: one command for every job.

``jobs/VERB.py`` are equivalent scripts for ``ray job submit``. The docstring of a verb is its help text.
"""

import inspect
import os
import shlex
import sys
from collections.abc import Callable
from typing import NoReturn

from zsfuse_ray import __version__
from zsfuse_ray.config import options
from zsfuse_ray.config.benchmark import BenchmarkConfig
from zsfuse_ray.config.embed import EmbedConfig
from zsfuse_ray.config.evaluate import EvaluateConfig
from zsfuse_ray.config.export import ExportConfig
from zsfuse_ray.config.label import LabelConfig
from zsfuse_ray.config.options import Config
from zsfuse_ray.config.report import ReportConfig
from zsfuse_ray.config.reproduce import ReproduceConfig
from zsfuse_ray.config.score import PlanConfig, RunConfig, ScoreConfig
from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.config.tune import TuneConfig
from zsfuse_ray.errors import InputError, nearest
from zsfuse_ray.process import run_job

_OVERVIEW = """\
usage: zsfuse VERB [options]

{verbs}

zsfuse VERB --help lists the options of a verb. A first try, which needs no network:

    zsfuse score --input demo --output out
"""

# Ray's own messages go only to its log files, so a signal prints one line; set before Ray is imported.
_QUIET_RAY = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
}
_NOT_RESUMED = ("evaluate", "report", "export", "benchmark")


def run(argv: list[str] | None = None) -> NoReturn:
    """Run a command line, by default that of the process, and exit with its code."""
    argv = sys.argv[1:] if argv is None else argv
    for name, value in _QUIET_RAY.items():
        os.environ.setdefault(name, value)
    by_fold = any(word.startswith("--protocol") for word in argv)
    again = "starts over" if argv and argv[0] in _NOT_RESUMED and not by_fold else "resumes"
    run_job(main, argv, f"stopped; the same command {again}")


def main(argv: list[str]) -> int:
    """Run the verb of a command line; returns its exit code. InputError for an unknown verb."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help(), end="")
        return 0
    if argv[0] == "--version":
        print(f"zsfuse_ray {__version__}")
        return 0
    if argv[0] not in VERBS:
        raise InputError(f"zsfuse {argv[0]}: no such verb{nearest(argv[0], VERBS)}")
    return VERBS[argv[0]](argv[1:])


def plan(argv: list[str]) -> int:
    """Plan an archive: its content, items and size; zsfuse score continues from the plan.

    Run again, it adds new and changed recordings. With --measure it runs the models on a sample and prints
    the GPU time (without a GPU, the CPU core time) of the archive, and with --price its cost.

        zsfuse plan --input my_folder --output out
        zsfuse plan --input my_folder --output out --measure --preset paper --price 0.5
        RAY_AUTH_MODE=token ray job submit --working-dir . -- \\
            python jobs/plan.py --input s3://bucket/podcasts --output s3://bucket/labels
    """
    config, _ = parse(PlanConfig, argv, plan)
    # lazy imports, in all verbs: Ray and torch are slow, and a wrong command line needs neither
    from zsfuse_ray.archive.console import cost_text, plan_text
    from zsfuse_ray.archive.pipeline import plan as make_plan

    planned = make_plan(config)
    print(plan_text(planned.plan, planned.decode_s))
    if config.measure:
        print(cost_text(planned.plan.total("hours"), planned.models, config.price))
    return 0


def score(argv: list[str]) -> int:
    """Label an archive of speech with emotions.

        zsfuse score --input demo --output out
        zsfuse score --input my_folder --output out --labels angry,happy,sad,neutral
        zsfuse score --embeddings table --output out --text-repeats 2 --fusion loglinear --weight 0.3
        zsfuse score --list-models

    Run again with other labels, prompts, temperature, fusion, weight or prior, it labels again from encoded/,
    in seconds. If the archive has grown, it encodes and labels only new and changed recordings.

    --input and --embeddings exclude each other: --embeddings labels the output of zsfuse embed or score in
    another folder, without audio or GPU.

    On a Ray cluster, the same command:

        RAY_AUTH_MODE=token ray job submit --working-dir . -- \\
            python jobs/score.py --input s3://bucket/podcasts --output s3://bucket/labels

    Run again after an interruption, it resumes; after a finished run, it does nothing.
    """
    if "--list-models" in argv:
        from zsfuse_ray.models.about import listed
        from zsfuse_ray.models.catalog import MODELS

        print(listed(MODELS))
        return 0
    config, preset = parse(ScoreConfig, argv, score)
    if config.dry_run:
        return _print_preview(config)
    from zsfuse_ray.archive.console import print_result

    if config.embeddings is None:
        from zsfuse_ray.archive.pipeline import score as label
    else:
        from zsfuse_ray.archive.elsewhere import label_table as label
    return print_result(label(config, preset), config.max_reject_rate)


def label(argv: list[str]) -> int:
    """Label a few audio files: prints one row per segment, without Ray or an output folder.

        zsfuse label talk.mp3
        zsfuse label a.wav b.wav --labels angry,happy,sad,neutral
        zsfuse label s3://bucket/talk.mp3 --format csv > labels.csv

    The rows are those that zsfuse score writes to segments/. Exits with 1 if a file could not be read.
    """
    config, _ = parse(LabelConfig, argv, label)
    from zsfuse_ray.label import print_labels

    return print_labels(config)


def embed(argv: list[str]) -> int:
    """Encode an archive once, into an embedding table that can be labelled without audio.

        zsfuse embed --input demo --output table
        zsfuse embed --input clips.csv --output table --vad none --audio-repeats 1,2,3,4
        zsfuse score --embeddings table --output out --labels angry,happy,sad,neutral

    Writes encoded/ (the ALM's embedding of every distinct repetition of the audio, the specialist's logits
    and vectors), recordings/, rejects/ and run.json. A manifest's other columns, such as emotion, speaker
    and split, are copied. Run again with another model or more copies of the audio, it encodes only what is
    missing; if the archive has grown, only new and changed recordings.

    On a Ray cluster, the same command:

        RAY_AUTH_MODE=token ray job submit --working-dir . -- \\
            python jobs/embed.py --input s3://bucket/podcasts --output s3://bucket/table

    Run again after an interruption, it resumes; after a finished run, it does nothing.
    """
    config, preset = parse(EmbedConfig, argv, embed)
    if config.dry_run:
        return _print_preview(config)
    from zsfuse_ray.archive.console import print_result
    from zsfuse_ray.archive.pipeline import embed as encode

    return print_result(encode(config, preset), config.max_reject_rate)


def tune(argv: list[str]) -> int:
    """Find the best prompts, amplification and fusion on labelled clips.

        zsfuse tune --corpus ravdess:FOLDER --output out
        zsfuse tune --input my_clips.csv --alm clap:FOLDER --specialist classifier:FOLDER --output out

    A manifest has the columns uri, emotion and speaker, and optionally start_s, end_s, split or fold. The
    clips are encoded once; then every subset of the templates is evaluated with 101 fusion weights, for all
    copies of audio and text, ensemble rules and fusion rules. The reported accuracy is nested: measured on
    speakers that were not used for the choice; temperatures are fitted across speakers. Writes tuned.yaml,
    for --tuned of score and evaluate; tune.md, tune.json and figures/; trials/ with every subset of every
    block; best/ with the best configuration per number of templates and per weight.

    On a Ray cluster, the same command (the Ray dashboard, locally with --dashboard, and tensorboard --logdir
    out/ray_tune show the trials):

        RAY_AUTH_MODE=token ray job submit --working-dir . -- \\
            python jobs/tune.py --input s3://bucket/clips.csv --output s3://bucket/tuning

    Run again after an interruption, it resumes; after a finished run, it does nothing.
    """
    config, preset = parse(TuneConfig, argv, tune)
    from zsfuse_ray.experiments.clips import exit_code
    from zsfuse_ray.experiments.tune.run import tune as search
    from zsfuse_ray.reporting.tuning import write

    result = search(config, preset)
    print(write(result.out, result.record))
    return exit_code([result.record["clips"]], config.max_reject_rate)


def train(argv: list[str]) -> int:
    """Train a specialist or an audio-language model on labelled clips.

        zsfuse train --train my_clips.csv --init mini --preset tiny --output my_specialist
        zsfuse train --corpus ravdess:FOLDER,emodb:FOLDER --splits mini --preset finetune \\
            --init microsoft/wavlm-large --output my_specialist
        zsfuse train --train train.csv --dev dev.csv --init FOLDER --output my_specialist --workers 4
        zsfuse train --from-table out --train corrections.csv --output my_head

    The first needs no network. Without --dev or a split for dev clips, a fifth of the speakers is held out
    of training to choose the best epoch; --dev none trains on all clips and saves the last epoch.

    With --from-table, the output of zsfuse score, a head is fitted in seconds on the vectors kept there: on
    the corrections that a report saves, or without --train on the emotions of the manifest that was scored.
    Label again with --head my_head.

    The output folder is a model for zsfuse score: --specialist my_specialist. On a Ray cluster, the same
    command, with an output that all machines can read:

        RAY_AUTH_MODE=token ray job submit --working-dir . -- python jobs/train.py \\
            --train s3://bucket/train.csv --init microsoft/wavlm-large --output s3://bucket/my_specialist

    Run again after an interruption, it resumes from its last checkpoint; after a finished run, it does
    nothing.
    """
    config, preset = parse(TrainConfig, argv, train)
    command = shlex.join(["zsfuse", "train", *argv])
    if config.from_table and config.task == "fusion":
        from zsfuse_ray.training.fusion_of_table import fit_on_table

        print(fit_on_table(config, command).summary)
        return 0
    if config.from_table:
        from zsfuse_ray.training.head import train_head

        print(train_head(config, command).summary)
        return 0
    from zsfuse_ray.training.run import summary
    from zsfuse_ray.training.run import train as fine_tune

    print(summary(fine_tune(config, preset, command)), flush=True)
    return 0


def evaluate(argv: list[str]) -> int:
    """Evaluate all systems of the paper's table on labelled clips.

        zsfuse evaluate --corpus ravdess:FOLDER,emodb:FOLDER --splits mini --output out
        zsfuse evaluate --input my_clips.csv --alm clap:FOLDER --specialist classifier:FOLDER --output out

    A manifest has the columns uri, emotion and speaker, and optionally start_s, end_s, split (train, dev,
    test) or fold. All settings are chosen on dev speakers and reported on test speakers; without splits, on
    speaker-independent folds. Writes evaluation.md, evaluation.json, figures/, predictions.parquet and
    rejects/.

        zsfuse evaluate --corpus ravdess:FOLDER --protocol emobox --seeds 3 --output out

    With --protocol it trains in each fold: a linear head on the specialist's frozen vectors, and the fusions.
    Writes protocol.md, protocol.json and folds/, with the mean and the spread over folds and seeds. Run again
    after an interruption, or with more seeds, it trains only the folds that are missing.

    On a Ray cluster, the same command:

        RAY_AUTH_MODE=token ray job submit --working-dir . -- \\
            python jobs/evaluate.py --input s3://bucket/clips.csv --output s3://bucket/evaluation
    """
    config, preset = parse(EvaluateConfig, argv, evaluate)
    from zsfuse_ray.experiments.clips import exit_code

    if config.protocol is not None:
        from zsfuse_ray.experiments.by_fold import evaluate_by_fold
        from zsfuse_ray.reporting.by_fold import write as write_folds

        result = evaluate_by_fold(config, preset)
        print(write_folds(result.out, result.record))
        return exit_code(
            [table["clips"] for table in result.record["corpora"].values()], config.max_reject_rate
        )
    from zsfuse_ray.experiments.evaluate import evaluate as measure
    from zsfuse_ray.reporting.evaluation import write

    result = measure(config, preset)
    print(write(result.out, result.record))
    tables = result.record["corpora"].values()
    return exit_code([table["protocol"] for table in tables], config.max_reject_rate)


def reproduce(argv: list[str]) -> int:
    """Make the paper's table for your corpora: ALM × speech model × fusion × copies (a, b).

        zsfuse reproduce --corpus ravdess:FOLDER,iemocap:FOLDER --output table
        zsfuse reproduce --corpus ravdess:FOLDER --output table \\
            --alms pooled-alm:mini --specialists pooled:mini

    Each pair of models is evaluated as by evaluate --protocol, in a folder of its own below cells/. A model
    that is not at hand, or a corpus of the paper that is not given, is marked in the table with the reason.
    Writes table.md, table.tex and table.json.

    Run again after an interruption, or when a missing model is at hand, it computes only what is missing.
    """
    config, _ = parse(ReproduceConfig, argv, reproduce)
    from zsfuse_ray.experiments.reproduce import reproduce as make_table
    from zsfuse_ray.reporting.reproduction import write

    result = make_table(config)
    print(write(result.out, result.record))
    return 0


def report(argv: list[str]) -> int:
    """Write a page to look at the labels of a run, listen to them and correct them.

        zsfuse report --run out
        zsfuse report --run s3://bucket/labels --output report.html
        zsfuse report --run out --evaluation figures --tuning tuning

    One HTML file, which needs no network: an overview, the recordings with their emotions over time, and the
    segments to check first (a random sample, the least certain, and those on which the models disagree), with
    their audio. Your corrections are saved as a manifest to train on; tune and evaluate also
    need its column speaker.
    """
    config, _ = parse(ReportConfig, argv, report)
    from zsfuse_ray.reporting.page.write import report as write

    print(write(config))
    return 0


def export(argv: list[str]) -> int:
    """Export the labels of a run to other programs.

        zsfuse export --run out --format csv,audacity
        zsfuse export --run out --format all --output exports
        zsfuse export --run s3://bucket/labels --format huggingface

    A folder a format: csv, jsonl (all columns of all segments), audacity (labels), vtt and srt (captions),
    textgrid (Praat), elan (.eaf), rttm, label-studio (predictions to correct, and the labelling interface),
    audformat (needs pip install audformat), huggingface (a folder for datasets.load_dataset). Formats with a
    file for each recording repeat the archive's folders. An earlier export in the same folder is replaced.
    """
    config, _ = parse(ExportConfig, argv, export)
    from zsfuse_ray.reporting.exports.export import export as write

    print(write(config))
    return 0


def benchmark(argv: list[str]) -> int:
    """Measure the speed on this machine: medians of several repeats, and ratios within one run.

        zsfuse benchmark --output out
        zsfuse benchmark --input my_folder --corpus ravdess:FOLDER --output out
        zsfuse benchmark --parts search,naive,memory --corpus ravdess:FOLDER --output out

    Parts: decode (with voice activity detection, and each alone), encode (each model alone), end (zsfuse
    score end to end, as a process), label (labels from encoded/, one core; --label-segments 1000000,20000000
    shows how time and memory grow), search (zsfuse tune: every subset of 16 templates, 101 weights, a and b
    of 1 to 4), naive (the same search one configuration at a time, extrapolated), memory (peak memory of a
    search over 100,000 segments), plan (rate and memory of planning a million recordings, of which only the
    listing exists). Prints a table; writes benchmark.json and benchmark.md.

    It always starts a local Ray and ignores RAY_ADDRESS. On a machine that is busy with other work, use the
    ratios, not the seconds.
    """
    config, _ = parse(BenchmarkConfig, argv, benchmark)
    from zsfuse_ray.benchmark.run import benchmark as measure

    print(measure(config), end="")
    return 0


VERBS: dict[str, Callable[[list[str]], int]] = {
    verb.__name__: verb
    for verb in (label, plan, score, embed, tune, train, evaluate, reproduce, report, export, benchmark)
}


def parse(kind: type[Config], argv: list[str], verb: Callable[..., int]) -> tuple[Config, str]:
    """The configuration of a verb's command line, and the name of its preset."""
    return options.parse(kind, argv, inspect.getdoc(verb) or "", f"zsfuse {verb.__name__}")


def _print_preview(config: RunConfig) -> int:
    from zsfuse_ray.archive.preview import preview

    print(preview(config))
    return 0


def _help() -> str:
    firsts = {name: (inspect.getdoc(verb) or "").splitlines()[0] for name, verb in VERBS.items()}
    verbs = "\n".join(f"  {name:12}{first}" for name, first in firsts.items())
    return _OVERVIEW.format(verbs=verbs)
