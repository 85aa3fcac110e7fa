"""The tasks by name."""

from zsfuse_ray.config.train import TrainConfig
from zsfuse_ray.training.task import Task


def task_class(config: TrainConfig) -> type[Task]:
    """Return the class of the configured task. Lazy imports: slow."""
    if config.task == "alm":
        from zsfuse_ray.training.alm import Contrastive

        return Contrastive
    if config.task == "fusion":
        from zsfuse_ray.training.fusion import Fusion

        return Fusion
    from zsfuse_ray.training.specialist import Specialist

    return Specialist
