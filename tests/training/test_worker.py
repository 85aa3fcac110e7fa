import torch.distributed as dist

from tests.training.training_support import in_processes
from zsfuse_ray.training.worker import first_problem


def _found(broken: int | None) -> list[str | None]:
    own = f"worker {broken} has no model" if dist.get_rank() == broken else None
    answers: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(answers, first_problem(own))
    return answers


def test_start_up_error_of_one_worker_ends_all() -> None:
    assert in_processes(_found, 2, 1) == ["worker 1 has no model"] * 2
    assert in_processes(_found, 2, None) == [None, None]


def test_single_worker_returns_its_own_error() -> None:
    assert first_problem("no model") == "no model"
    assert first_problem(None) is None
