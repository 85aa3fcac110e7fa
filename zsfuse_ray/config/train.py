"""Options of ``zsfuse train``."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.augmentation import AtLeastOne, AugmentationOptions, Count, NotNegative, Positive
from zsfuse_ray.config.options import (
    CHECKED,
    DASHBOARD_HELP,
    RAY_ADDRESS_HELP,
    Fraction,
    Numbers,
    Templates,
    Words,
    option,
)
from zsfuse_ray.config.train_fusion import OF_FUSION, OF_PROMPTS, FusionOptions
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.prompts import TEMPLATES, check_template

Normalise = Literal["auto", "none", "recording", "speaker"]
# The options that apply with --from-table.
OF_TABLE = frozenset(("task", "output", "from_table", "train", "normalise", "overwrite"))
NO_DEV = "none"  # value of --dev: no dev clips, no held-out speakers
_ALM = "audio-language model"  # the heading of the options of --task alm


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TrainConfig(FusionOptions, AugmentationOptions):
    """Options of ``zsfuse train``. Presets are recipes: everything but the data."""

    preset_folder: ClassVar[str | None] = "train"
    needed: ClassVar[Mapping[str, Any]] = {"init": "mini", "train": "clips.csv", "output": "model"}

    task: Literal["specialist", "alm", "fusion"] = option(
        "specialist",
        "specialist: labels of clips; alm: captions of clips; fusion: a specialist together with the layer "
        "that fuses it with an audio-language model",
        "models",
    )
    init: str = option(
        "",
        "model to start from: mini, a hub id, a folder, or a folder without weights (config.json "
        "and preprocessor_config.json), which starts from random weights",
        "models",
        "MODEL",
    )
    output: str = option(
        "",
        "folder, s3:// or gs:// prefix for the model, its card, checkpoints and TensorBoard log",
        "output",
        "FOLDER",
    )
    corpus: Words = option((), "labelled corpora, such as ravdess:FOLDER,emodb:FOLDER", "input")
    splits: str | None = option(
        None,
        "csv of corpus, speaker, split, or mini; replaces the splits of the corpora",
        "input",
        "FILE",
    )
    train: str | None = option(
        None,
        "manifest of training clips; its column split, if any, selects train and dev; with --from-table, "
        "corrected segments, by default the table's column emotion",
        "input",
        "FILE",
    )
    from_table: str | None = option(
        None,
        "instead of audio: output of zsfuse embed or score, on whose vectors a head for --head of score is "
        "fitted in seconds",
        "input",
        "FOLDER",
    )
    normalise: Normalise = option(
        "auto",
        "normalise the vectors of --from-table by recording or speaker, as score does; auto is what score's "
        "auto does with this archive and specialist",
        "models",
    )
    dev: str | None = option(
        None,
        "manifest of the clips for choosing the best epoch, or none; by default those of split dev, else "
        "those of a fifth of the speakers, held out of training",
        "input",
        "FILE",
    )
    labels: Words = option((), "train on these labels only; by default all labels of the clips", "input")

    from_scratch: bool = option(False, "start from random weights even if --init has trained ones", "models")
    freeze: Literal["auto", "nothing", "features", "encoder"] = option(
        "auto", "part that is not trained; auto is the feature extractor of a trained model", "models"
    )
    weighted_layers: bool = option(
        False, "classify a learned weighted sum of all layers instead of the last one", "models"
    )
    attention_pooling: bool = option(
        False, "pool frames by learned attention instead of their mean (wav2vec 2.0, HuBERT, WavLM)", "models"
    )
    lora_rank: Count = option(
        0, "rank of LoRA adapters, merged when saved; 0 trains the weights themselves", "models"
    )
    lora_alpha: Positive = option(16.0, "scale of the adapters, divided by their rank", "models")
    gradient_checkpointing: bool = option(False, "recompute activations to save memory", "training")

    epochs: AtLeastOne = option(10, "passes over the training clips", "training")
    batch_s: Positive = option(
        64.0,
        "seconds of audio per step over all workers; their number does not change the result",
        "training",
    )
    accumulate: AtLeastOne = option(1, "micro-batches per step of each worker", "training")
    crop_s: Positive = option(4.0, "maximum seconds of a training clip, cropped at random", "training")
    max_s: Positive = option(10.0, "maximum seconds of a dev clip, from its start", "training")
    balance: Fraction = option(
        0.0,
        "draw clips in proportion to n(corpus, label)^-balance; 0 draws each once per epoch, "
        "1 each label of each corpus equally often",
        "training",
    )
    lr: Positive = option(1e-4, "peak learning rate of the last layer", "optimiser")
    head_lr: Positive | None = option(
        None, "peak learning rate of the new head; by default that of --lr", "optimiser"
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = option(
        1.0, "factor on the learning rate from each layer to the one below it", "optimiser"
    )
    weight_decay: NotNegative = option(0.01, "weight decay of AdamW; none for biases and norms", "optimiser")
    warmup: Fraction = option(0.1, "share of the training in which the learning rate rises", "optimiser")
    final_lr: Fraction = option(0.0, "final learning rate of the cosine, as a share of the peak", "optimiser")
    clip_norm: NotNegative = option(
        1.0, "norm that the gradient of a step is clipped to; 0 disables clipping", "optimiser"
    )
    ema: Annotated[float, Field(ge=0, lt=1)] = option(
        0.0,
        "decay of the moving average of the weights, which is evaluated and saved; 0 disables it",
        "optimiser",
    )
    loss: Literal["cross_entropy", "focal"] = option(
        "cross_entropy", "focal gives less weight to clips that are classified well", "loss"
    )
    focal_gamma: NotNegative = option(2.0, "gamma of the focal loss", "loss")
    class_weights: Literal["none", "balanced"] = option(
        "none", "balanced weights the clips of each label by its inverse frequency", "loss"
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = option(
        0.0, "share of the target spread over all labels", "loss"
    )
    mask_unknown: bool = option(
        False, "exclude labels that a corpus lacks from the loss of its clips", "loss"
    )

    # -- alm -------------------------------------------------------------------------------------------------
    text: str = option(
        "",
        "text encoder (hub id or folder); --init is then an audio encoder, otherwise an ALM",
        _ALM,
        "MODEL",
    )
    text_lr: NotNegative = option(
        0.0,
        "peak learning rate of the text encoder; 0 freezes it and a trained text projection",
        _ALM,
    )
    projection: Literal["linear", "mlp"] = option(
        "linear", "projection of each new encoder into the common space", _ALM
    )
    projection_dim: Count = option(
        0,
        "size of the common space of two new encoders; 0 uses the outputs of the text encoder unprojected",
        _ALM,
    )
    audio_pooling: Literal["mean", "pooler"] = option(
        "mean", "how the outputs of a new audio encoder are pooled", _ALM
    )
    text_pooling: Literal["mean", "cls", "pooler"] = option(
        "mean", "how the outputs of a new text encoder are pooled", _ALM
    )
    contrastive: Literal["info_nce", "sigmoid"] = option(
        "info_nce", "contrastive loss: softmax as in CLIP, or sigmoid as in SigLIP", _ALM
    )
    captions: Templates = option(
        (),
        "caption templates with {emotion}, {gender}, {intensity}, {style} or other columns; by default those "
        "that the columns can fill",
        _ALM,
        "TEXT|TEXT|…",
    )
    caption_words: Annotated[int, Field(ge=1, le=10)] = option(
        10, "words per emotion in the captions: the emotion itself, then its synonyms", _ALM
    )
    templates: Templates = option(
        TEMPLATES,
        "prompt templates with {} for the label: for the evaluation on dev clips, or of --task fusion",
        _ALM,
        "TEXT|TEXT|…",
    )

    # -- run and resources -----------------------------------------------------------------------------------
    seed: Count = option(0, "random seed; the same seed gives the same weights", "training")
    patience: Count = option(
        0, "stop after this many epochs without improvement on dev clips; 0 never stops early", "training"
    )
    workers: Numbers = option(
        (1,), "training processes, or MIN,MAX for a cluster that shrinks and grows", "cluster", "MIN[,MAX]"
    )
    gpus_per_worker: NotNegative | None = option(
        None, "GPUs per worker; by default 1 if the cluster has GPUs", "cluster"
    )
    cpus_per_worker: Positive = option(1.0, "logical CPUs per worker", "cluster")
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "auto is bfloat16 on a GPU and float32 on a CPU", "training"
    )
    checkpoint_steps: Count = option(
        0, "steps between checkpoints within an epoch; 0 writes them only after each epoch", "cluster"
    )
    max_failures: Count = option(3, "replacements of lost workers before the job fails", "cluster")
    half: bool = option(False, "save the weights as float16", "output")
    max_reject_rate: Fraction = option(
        0.05, "share of clips that may be unreadable before the job exits with 1", "input"
    )
    ray_address: str | None = option(None, RAY_ADDRESS_HELP, "cluster", "ADDRESS")
    dashboard: bool = option(False, DASHBOARD_HELP, "cluster")
    overwrite: bool = option(False, "delete the results of another training in the output folder", "output")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.output:
            raise InputError("--output is needed")
        for template in self.templates:
            check_template(template)
        if self.task != "fusion" and (given := _changed(self, OF_FUSION)):
            raise InputError(f"--{given.replace('_', '-')} is an option of --task fusion")
        if self.from_table:
            self._check_from_table()
            return
        if not self.init:
            raise InputError("--init is needed")
        if self.normalise != "auto":
            raise InputError("--normalise is an option of --from-table")
        if bool(self.corpus) == bool(self.train):
            raise InputError(
                "name the training clips: --corpus ravdess:FOLDER, or --train MANIFEST, not both"
            )
        if self.corpus and self.dev and self.dev != NO_DEV:
            raise InputError("--dev needs --train; with --corpus, give the dev speakers in --splits")
        if len(self.workers) > 2 or list(self.workers) != sorted(self.workers):
            raise InputError("--workers takes a number or MIN,MAX")
        if self.text and self.task != "alm":
            raise InputError("--text is an option of --task alm")
        if self.task == "alm" and self.accumulate > 1:
            raise InputError(
                "--accumulate: the loss of --task alm needs whole steps; lower --batch-s instead"
            )
        of_labels = (
            "lora_rank",
            "weighted_layers",
            "attention_pooling",
            "class_weights",
            "loss",
            "focal_gamma",
        )
        if self.task == "alm" and (given := _changed(self, of_labels)):
            raise InputError(f"--{given.replace('_', '-')} is an option of --task specialist")
        if self.lora_rank and self.freeze == "nothing":
            raise InputError("--freeze nothing contradicts --lora-rank, which trains only adapters")
        if self.batch_s < self.crop_s * max(self.workers) * self.accumulate:
            least = self.crop_s * max(self.workers) * self.accumulate
            raise InputError(
                f"--batch-s {self.batch_s:g}: {max(self.workers)} workers with {self.accumulate} parts of "
                f"{self.crop_s:g} s each need {least:g}"
            )

    def _check_from_table(self) -> None:
        """InputError for options that have no effect with --from-table, which needs no training."""
        if self.task == "alm":
            raise InputError("--from-table is an option of --task specialist and fusion, not of --task alm")
        known = OF_TABLE | ({*OF_PROMPTS, "templates", "labels"} if self.task == "fusion" else set())
        others = tuple(one.name for one in dataclasses.fields(self) if one.name not in known)
        if given := _changed(self, others):
            raise InputError(
                f"--{given.replace('_', '-')} has no effect with --from-table: it is for training on audio"
            )


def _changed(config: TrainConfig, names: tuple[str, ...]) -> str | None:
    """The first of these options with a value other than its default."""
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    return next((name for name in names if getattr(config, name) != defaults[name]), None)


# Options of output and resources; all others decide the result.
OPERATIONAL = frozenset((
    "output", "workers", "gpus_per_worker", "cpus_per_worker", "checkpoint_steps", "max_failures",
    "max_reject_rate", "ray_address", "dashboard", "overwrite",
))  # fmt: skip
