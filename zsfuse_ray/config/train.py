"""Options of ``zsfuse train``."""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.options import CHECKED, Fraction, Numbers, Options, Templates, Words, option
from zsfuse_ray.errors import InputError
from zsfuse_ray.method.prompts import TEMPLATES, check_template

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]


def _two(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


Range = Annotated[tuple[float, float], BeforeValidator(_two)]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TrainConfig(Options):
    """What to train, on which clips, how, and with what. Presets are recipes: everything but the data."""

    preset_folder: ClassVar[str | None] = "train"

    task: Literal["specialist", "alm"] = option(
        "specialist", "specialist: labels of clips; alm: captions of clips"
    )
    init: str = option(
        "",
        "model to start from: hub id, folder, or a folder without weights (config.json and "
        "preprocessor_config.json), which starts from random ones",
    )
    output: str = option(
        "", "folder or s3:// prefix for the model, its card, checkpoints and TensorBoard log"
    )
    corpus: Words = option((), "labelled corpora, such as ravdess:FOLDER,emodb:FOLDER")
    splits: str | None = option(
        None, "csv of corpus, speaker, split (or mini) instead of the corpora's own splits"
    )
    train: str | None = option(
        None, "manifest of training clips (a column split, if there, chooses among them)"
    )
    dev: str | None = option(None, "manifest of the clips that choose the best epoch")
    labels: Words = option((), "train these labels only; by default all that the training clips have")

    from_scratch: bool = option(False, "start from random weights even where --init has trained ones")
    freeze: Literal["auto", "nothing", "features", "encoder"] = option(
        "auto", "what keeps its weights: auto freezes the feature extractor of trained models"
    )
    weighted_layers: bool = option(False, "classify a learned weighted sum of all layers, not the last alone")
    lora_rank: Count = option(
        0, "rank of LoRA adapters on the layers, merged when saved; 0 trains all weights"
    )
    lora_alpha: Positive = option(16.0, "scale of the adapters, divided by their rank")
    gradient_checkpointing: bool = option(False, "compute activations twice to save memory")

    epochs: AtLeastOne = option(10, "passes over the training clips")
    batch_s: Positive = option(
        64.0, "seconds of audio per step, over all workers: their number changes no result"
    )
    accumulate: AtLeastOne = option(1, "parts in which a worker takes its share of a step")
    crop_s: Positive = option(4.0, "longest stretch of a clip in training, in seconds, from a random place")
    max_s: Positive = option(10.0, "longest stretch of a dev clip, in seconds, from its start")
    balance: Fraction = option(
        0.0,
        "draw clips in proportion to n(corpus, label)^-balance; 0 draws each once an epoch, "
        "1 every label of every corpus equally often",
    )
    lr: Positive = option(1e-4, "peak learning rate of the last layer")
    head_lr: Positive | None = option(None, "peak learning rate of the new head, where not --lr")
    layer_decay: Annotated[float, Field(gt=0, le=1)] = option(
        1.0, "factor on the learning rate from each layer to the one below it"
    )
    weight_decay: NotNegative = option(0.01, "AdamW's, not on biases and norms")
    warmup: Fraction = option(0.1, "share of the training in which the learning rate rises")
    final_lr: Fraction = option(0.0, "share of the peak at which the cosine ends")
    clip_norm: NotNegative = option(1.0, "largest norm of a step's gradient; 0 is any")
    ema: Annotated[float, Field(ge=0, lt=1)] = option(
        0.0, "decay of the average of weights that is tested and saved; 0 takes the last ones"
    )
    loss: Literal["cross_entropy", "focal"] = option(
        "cross_entropy", "focal lowers the weight of clips that are already right"
    )
    focal_gamma: NotNegative = option(2.0, "strength of the focal loss")
    class_weights: Literal["none", "balanced"] = option(
        "none", "balanced weighs every label's clips by their rarity"
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = option(
        0.0, "share of the target spread over all labels"
    )
    mask_unknown: bool = option(False, "labels that a corpus lacks are left out of its clips' loss")

    mixup: Fraction = option(0.0, "share of the clips that are mixed with another one")
    mixup_alpha: Positive = option(0.4, "both parameters of the Beta distribution that a mix is drawn from")
    speed: Annotated[float, Field(ge=0, lt=0.5)] = option(
        0.0, "play at 1 ± this speed: tempo and pitch change"
    )
    warp: Annotated[float, Field(ge=0, lt=0.5)] = option(
        0.0, "shift pitch and formants by 1 ± this at unchanged tempo"
    )
    gain_db: NotNegative = option(0.0, "change the level by up to this many dB")
    tilt_db: NotNegative = option(0.0, "tilt the spectrum by up to this many dB an octave")
    noise: Fraction = option(0.0, "share of clips with white or pink noise")
    babble: Fraction = option(0.0, "share of clips with other training clips in the background")
    snr_db: Range = option((5.0, 30.0), "level of noise and babble in dB below the voice")
    reverb: Fraction = option(0.0, "share of clips in a synthetic room")
    silence_s: NotNegative = option(0.0, "add up to so many seconds of near silence at either end")
    time_masks: Count = option(0, "stretches of features set to their mean")
    time_mask_s: Positive = option(0.3, "longest of these, in seconds")
    frequency_masks: Count = option(0, "bands of log-mel features set to their mean")
    frequency_mask: Annotated[float, Field(gt=0, le=1)] = option(
        0.2, "widest of these, as a share of the bands"
    )

    # -- alm -------------------------------------------------------------------------------------------------
    text: str = option(
        "", "text encoder (hub id or folder): with it --init is an audio encoder, without it an ALM of both"
    )
    text_lr: NotNegative = option(
        0.0, "peak learning rate of the text encoder; 0 keeps its weights, and a projection that has learned"
    )
    projection: Literal["linear", "mlp"] = option(
        "linear", "what leads from each new encoder to the common space"
    )
    projection_dim: Count = option(
        0,
        "size of the common space of two new encoders; 0 is that of the text encoder's outputs, as they are",
    )
    audio_pooling: Literal["mean", "pooler"] = option("mean", "how a new audio encoder's outputs become one")
    text_pooling: Literal["mean", "cls", "pooler"] = option(
        "mean", "how a new text encoder's outputs become one"
    )
    contrastive: Literal["info_nce", "sigmoid"] = option("info_nce", "CLIP's softmax, or SigLIP's sigmoid")
    captions: Templates = option(
        (),
        "caption templates with {emotion}, {gender}, {intensity}, {style} or other columns, separated by |",
    )
    caption_words: Annotated[int, Field(ge=1, le=10)] = option(
        10, "words an emotion is put into captions with"
    )
    templates: Templates = option(TEMPLATES, "prompt templates with {} of the dev figure, separated by |")

    # -- where and with what ---------------------------------------------------------------------------------
    seed: Count = option(0, "same seed, same weights")
    patience: Count = option(0, "stop after this many epochs without a better dev figure; 0 never")
    workers: Numbers = option((1,), "training processes, or MIN,MAX where the cluster may shrink and grow")
    gpus_per_worker: NotNegative | None = option(None, "GPUs of a worker; by default 1 where there are any")
    cpus_per_worker: Positive = option(1.0, "logical CPUs of a worker")
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "auto is bfloat16 on a GPU, float32 on CPU"
    )
    checkpoint_steps: Count = option(
        0, "checkpoint within an epoch after this many steps; 0 between epochs only"
    )
    max_failures: Count = option(3, "times that lost workers are replaced before the job gives up")
    half: bool = option(False, "save the weights in 16 bits")
    max_reject_rate: Fraction = option(0.05, "share of the clips that may be unreadable")
    ray_address: str | None = option(
        None, "Ray cluster to join (auto: the one here); else RAY_ADDRESS, else an own Ray"
    )
    dashboard: bool = option(False, "start an own Ray with its dashboard, and print where it is")
    overwrite: bool = option(False, "delete another training in the output folder")

    def __post_init__(self) -> None:
        for name in ("init", "output"):
            if not getattr(self, name):
                raise InputError(f"--{name} is needed")
        if bool(self.corpus) == bool(self.train):
            raise InputError(
                "name the training clips: --corpus ravdess:FOLDER, or --train MANIFEST, not both"
            )
        if self.corpus and self.dev:
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
        if self.snr_db[0] > self.snr_db[1]:
            raise InputError("--snr-db takes LOW,HIGH")
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
