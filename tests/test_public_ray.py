"""The package uses no private modules of Ray, which change without notice."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = sorted(path for folder in ("zsfuse_ray", "jobs", "dev") for path in (ROOT / folder).rglob("*.py"))


def names(source: str) -> set[str]:
    """Every dotted name that a module imports or uses, such as ``ray.data.DataContext``."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute):
            found.add(ast.unparse(node))
    return found


def private(source: str) -> list[str]:
    parts = {name: name.split(".") for name in names(source)}
    return sorted(
        name
        for name, (root, *rest) in parts.items()
        if root == "ray" and any(part.startswith("_") and not part.startswith("__") for part in rest)
    )


def test_no_private_module_of_ray_is_used() -> None:
    assert len(FILES) > 100
    found = {str(path.relative_to(ROOT)): private(path.read_text()) for path in FILES}
    assert {path: uses for path, uses in found.items() if uses} == {}


def test_every_form_of_use_is_detected() -> None:
    for source in (
        "import ray._private.log",
        "from ray._private.log import PlainRayHandler",
        "from ray.data import _internal",
        "def later():\n    from ray.data._internal import logging",
        "import ray\nray._private.worker.global_worker",
    ):
        assert private(source), source
    assert private("import ray\nfrom ray.data import DataContext\nprint(ray.__version__)") == []
