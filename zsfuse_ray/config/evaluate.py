"""Options of ``jobs/evaluate.py``."""

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from zsfuse_ray.config.labelled import LabelledOptions
from zsfuse_ray.config.models import TUNED
from zsfuse_ray.config.options import CHECKED, option


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class EvaluateConfig(LabelledOptions):
    """Options of ``jobs/evaluate.py``: labelled clips, who chooses and who tests, the models."""

    tuned_keys: ClassVar[tuple[str, ...]] = TUNED

    folds: Annotated[int, Field(ge=2, le=100)] = option(
        5, "speaker-independent folds of a corpus with neither splits nor folds of its own"
    )

    @classmethod
    def takes_of_tuned(cls) -> set[str]:
        """The labels are the clips' own; temperature, fusion rule and weight are chosen on dev clips."""
        return super().takes_of_tuned() - {"labels"}
