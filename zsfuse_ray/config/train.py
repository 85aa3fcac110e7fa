"""Options of ``zsfuse train``."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.augmentation import AugmentationOptions, Count, NotNegative, Positive
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
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.prompts import TEMPLATES, check_template

AtLeastOne = Annotated[int, Field(ge=1)]
NO_DEV = "none"  # as --dev: no dev clips, and nobody is held out
_ALM = "audio-language model"  # the heading of the options of --task alm


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TrainConfig(AugmentationOptions):
    """What to train, on which clips, how, and with what. Presets are recipes: everything but the data."""

    preset_folder: ClassVar[str | None] = "train"
    needed: ClassVar[Mapping[str, Any]] = {"init": "mini-specialist", "train": "clips.csv", "output": "model"}

    task: Literal["specialist", "alm"] = option(
        "specialist", "specialist: labels of clips; alm: captions of clips", "models"
    )
    init: str = option(
        "",
        "model to start from: mini-specialist, a hub id, a folder, or a folder without weights (config.json "
        "and preprocessor_config.json), which starts from random ones",
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
        "csv of corpus, speaker, split, or mini, in place of the splits of the corpora",
        "input",
        "FILE",
    )
    train: str | None = option(
        None, "manifest of training clips; a column split, if there, chooses among them", "input", "FILE"
    )
    dev: str | None = option(
        None,
        "manifest of the clips that choose the best epoch, or none; by default the clips of split dev, else "
        "those of a fifth of the speakers, held out of training",
        "input",
        "FILE",
    )
    labels: Words = option((), "train on these labels only; by default all that the clips have", "input")

    from_scratch: bool = option(False, "start from random weights even if --init has trained ones", "models")
    freeze: Literal["auto", "nothing", "features", "encoder"] = option(
        "auto", "what is not trained; auto is the feature extractor of a trained model", "models"
    )
    weighted_layers: bool = option(
        False, "classify a learned weighted sum of all layers in place of the last one", "models"
    )
    lora_rank: Count = option(
        0, "rank of LoRA adapters, merged when saved; 0 trains the weights themselves", "models"
    )
    lora_alpha: Positive = option(16.0, "scale of the adapters, divided by their rank", "models")
    gradient_checkpointing: bool = option(False, "compute activations twice to save memory", "training")

    epochs: AtLeastOne = option(10, "passes over the training clips", "training")
    batch_s: Positive = option(
        64.0, "seconds of audio per step over all workers, whose number changes no result", "training"
    )
    accumulate: AtLeastOne = option(
        1, "micro-batches that a worker splits its share of a step into", "training"
    )
    crop_s: Positive = option(
        4.0, "longest part of a clip in training in seconds, cropped at random", "training"
    )
    max_s: Positive = option(10.0, "longest part of a dev clip in seconds, from its start", "training")
    balance: Fraction = option(
        0.0,
        "draw clips in proportion to n(corpus, label)^-balance; 0 draws each once an epoch, "
        "1 every label of every corpus equally often",
        "training",
    )
    lr: Positive = option(1e-4, "peak learning rate of the last layer", "optimiser")
    head_lr: Positive | None = option(
        None, "peak learning rate of the new head; by default that of --lr", "optimiser"
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = option(
        1.0, "factor on the learning rate from each layer to the one below it", "optimiser"
    )
    weight_decay: NotNegative = option(0.01, "weight decay of AdamW, but of biases and norms", "optimiser")
    warmup: Fraction = option(0.1, "share of the training in which the learning rate rises", "optimiser")
    final_lr: Fraction = option(0.0, "share of the peak learning rate at which the cosine ends", "optimiser")
    clip_norm: NotNegative = option(
        1.0, "norm that the gradient of a step is clipped to; 0 disables clipping", "optimiser"
    )
    ema: Annotated[float, Field(ge=0, lt=1)] = option(
        0.0,
        "decay of the moving average of the weights that is measured and saved; 0 disables it",
        "optimiser",
    )
    loss: Literal["cross_entropy", "focal"] = option(
        "cross_entropy", "focal lowers the weight of clips that are classified well", "loss"
    )
    focal_gamma: NotNegative = option(2.0, "gamma of the focal loss", "loss")
    class_weights: Literal["none", "balanced"] = option(
        "none", "balanced weighs the clips of each label by its inverse frequency", "loss"
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = option(
        0.0, "share of the target spread over all labels", "loss"
    )
    mask_unknown: bool = option(
        False, "leave the labels that a corpus lacks out of the loss of its clips", "loss"
    )

    # -- alm -------------------------------------------------------------------------------------------------
    text: str = option(
        "",
        "text encoder (hub id or folder): with it --init is an audio encoder, without it an ALM of both",
        _ALM,
        "MODEL",
    )
    text_lr: NotNegative = option(
        0.0,
        "peak learning rate of the text encoder; 0 trains neither it nor a trained text projection",
        _ALM,
    )
    projection: Literal["linear", "mlp"] = option(
        "linear", "projection of each new encoder into the common space", _ALM
    )
    projection_dim: Count = option(
        0,
        "size of the common space of two new encoders; 0 takes the outputs of the text encoder as they are",
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
        TEMPLATES, "prompt templates with {} for the label, for the figures on dev clips", _ALM, "TEXT|TEXT|…"
    )

    # -- where and with what ---------------------------------------------------------------------------------
    seed: Count = option(0, "seed of everything random; the same seed gives the same weights", "training")
    patience: Count = option(
        0, "stop after this many epochs without a better dev figure; 0 never stops early", "training"
    )
    workers: Numbers = option(
        (1,), "training processes, or MIN,MAX where the cluster may shrink and grow", "cluster", "MIN[,MAX]"
    )
    gpus_per_worker: NotNegative | None = option(
        None, "GPUs of a worker; by default 1 if the cluster has GPUs", "cluster"
    )
    cpus_per_worker: Positive = option(1.0, "logical CPUs of a worker", "cluster")
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "auto is bfloat16 on a GPU and float32 on a CPU", "training"
    )
    checkpoint_steps: Count = option(
        0, "write a checkpoint after this many steps of an epoch too; 0 only after each epoch", "cluster"
    )
    max_failures: Count = option(3, "times that lost workers are replaced before the job fails", "cluster")
    half: bool = option(False, "save the weights in 16 bits", "output")
    max_reject_rate: Fraction = option(
        0.05, "share of clips that may be unreadable before the job exits with 1", "input"
    )
    ray_address: str | None = option(None, RAY_ADDRESS_HELP, "cluster", "ADDRESS")
    dashboard: bool = option(False, DASHBOARD_HELP, "cluster")
    overwrite: bool = option(False, "delete another training in the output folder", "output")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("init", "output"):
            if not getattr(self, name):
                raise InputError(f"--{name} is needed")
        if bool(self.corpus) == bool(self.train):
            raise InputError(
                "name the training clips: --corpus ravdess:FOLDER, or --train MANIFEST, not both"
            )
        if self.corpus and self.dev and self.dev != NO_DEV:
            raise InputError("--dev goes with --train; with --corpus, --splits names the speakers of dev")
        if len(self.workers) > 2 or list(self.workers) != sorted(self.workers):
            raise InputError("--workers takes a number or MIN,MAX")
        for template in self.templates:
            check_template(template)
        if self.text and self.task != "alm":
            raise InputError("--text is the text encoder of --task alm")
        if self.task == "alm" and self.accumulate > 1:
            raise InputError(
                "--accumulate: a clip must meet all captions of its step; lower --batch-s instead"
            )
        of_labels = ("lora_rank", "weighted_layers", "class_weights", "loss", "focal_gamma")
        if self.task == "alm" and (given := _changed(self, of_labels)):
            raise InputError(f"--{given.replace('_', '-')} is an option of --task specialist")
        if self.lora_rank and self.freeze == "nothing":
            raise InputError("--freeze nothing contradicts --lora-rank, which trains adapters alone")
        if self.batch_s < self.crop_s * max(self.workers) * self.accumulate:
            least = self.crop_s * max(self.workers) * self.accumulate
            raise InputError(
                f"--batch-s {self.batch_s:g}: {max(self.workers)} workers with {self.accumulate} parts of "
                f"{self.crop_s:g} s each need {least:g}"
            )


def _changed(config: TrainConfig, names: tuple[str, ...]) -> str | None:
    """The first of these options that has not its default."""
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    return next((name for name in names if getattr(config, name) != defaults[name]), None)


# Options of where and with what the work is done; all others decide the result.
OPERATIONAL = frozenset((
    "output", "workers", "gpus_per_worker", "cpus_per_worker", "checkpoint_steps", "max_failures",
    "max_reject_rate", "ray_address", "dashboard", "overwrite",
))  # fmt: skip
