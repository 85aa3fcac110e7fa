"""Options of ``zsfuse train --task fusion``: the audio-language model, its prompts, the fused inputs."""

from typing import Literal

from pydantic.dataclasses import dataclass

from zsfuse_ray.config.augmentation import AtLeastOne
from zsfuse_ray.config.options import CHECKED, Fraction, Options, Repeats, option
from zsfuse_ray.method.zeroshot import Scores


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class FusionOptions(Options):
    """What a fusion reads of the audio-language model; the labels are those of the clips."""

    alm: str = option(
        "",
        "audio-language model of the fusion, which is not trained; by default that of --from-table, without "
        "it the one that comes with the package",
        "fusion",
        "MODEL",
    )
    audio_repeats: Repeats = option(
        (1,), "a: copies of the audio; with several values, the scores are averaged", "fusion"
    )
    text_repeats: Repeats = option((1,), "b: copies of the prompt", "fusion")
    separator: str = option(" ", "text between the copies of a prompt", "fusion")
    words: AtLeastOne = option(
        1, "words per label in the prompts: the label itself, then its synonyms", "fusion"
    )
    ensemble: Literal["embedding", "logit", "probability"] = option(
        "embedding", "what is averaged over the prompts of a label", "fusion"
    )
    scores: Scores = option(
        "logit",
        "zero-shot scores to read: cosines, cosines times the scale, or posteriors",
        "fusion",
    )
    per_prompt: bool = option(False, "one score per prompt and label instead of their ensemble", "fusion")
    dropout: Fraction = option(
        0.0, "share of the inputs of the fusion's linear layer that is dropped in training on audio", "fusion"
    )


# Its options that need no audio, so that they apply with --from-table.
OF_PROMPTS = (
    *("alm", "audio_repeats", "text_repeats", "separator", "words", "ensemble"),
    *("scores", "per_prompt"),
)
OF_FUSION = (*OF_PROMPTS, "dropout")
