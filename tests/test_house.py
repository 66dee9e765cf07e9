"""The package's layers import one way, modules are short, and every setting is read."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
from pathlib import Path

import pytest

from awac.config import AlgoConfig, EnvConfig, TrainConfig

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "awac"
ORDER = (
    "errors",
    "processors",
    "runs.files",
    "config",
    "envs",
    "data",
    "algorithm",
    "runs",
    "agent",
    "training",
    "sweep",
    "report",
    "bench",
    "cli",
)
"""A layer imports from those before it and from itself. `__init__` loads the public names lazily and is not listed."""
LIMIT = 300
"""Largest number of lines of a module."""


def modules():
    """(name without `awac.`, file, syntax tree) of every module; the peers of the bench run elsewhere."""
    for path in sorted(SOURCE.rglob("*.py")):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        if not name.startswith("bench.peers"):
            yield name, path, ast.parse(path.read_text(encoding="utf-8"))


def layer(module: str) -> int | None:
    """The place in ORDER of a module; None for `__init__`."""
    places = [i for i, name in enumerate(ORDER) if module == name or module.startswith(name + ".")]
    return min(places) if places else None


def imports(tree):
    """Modules of awac that a tree imports anywhere, functions and type checking included, without `awac.`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("awac.") for name in names if name.startswith("awac."))


def test_layers_import_only_downwards():
    upwards = [
        f"{name} imports {imported}"
        for name, _, tree in modules()
        if (own := layer(name)) is not None
        for imported in imports(tree)
        if (other := layer(imported)) is not None and other > own
    ]
    assert upwards == []


def test_the_layers_are_documented():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert re.findall(r"`([\w.]+)`", text.partition("before it: ")[2].partition("`tests/")[0]) == list(ORDER)


def test_each_module_has_a_layer():
    assert [name for name, _, _ in modules() if layer(name) is None and name not in ("__init__", "__main__")] == []
    assert {path.name for path in SOURCE.glob("*.py")} == {"__init__.py", "__main__.py", "errors.py", "processors.py"}


def test_files_stay_short():
    lengths = {path.relative_to(SOURCE).as_posix(): len(path.read_text().splitlines()) for _, path, _ in modules()}
    assert {name: n for name, n in lengths.items() if n > LIMIT} == {}


def test_every_setting_is_read():
    nodes = [node for name, _, tree in modules() if not name.startswith("config") for node in ast.walk(tree)]
    read = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    read |= {node.value for node in nodes if is_text(node)}
    keys = [field.name for cls in (EnvConfig, AlgoConfig, TrainConfig) for field in dataclasses.fields(cls)]
    assert [key for key in keys if key not in read] == []


@pytest.mark.parametrize("folder", ["example", "scripts"])
def test_scripts_import_what_the_package_has(folder):
    """Most of them run by hand only, so nothing else would notice a name that has moved."""
    missing = [
        f"{path.relative_to(ROOT)}, line {node.lineno}: {node.module}.{alias.name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "awac"
        for alias in node.names
        if not exists(node.module, alias.name)
    ]
    assert missing == []


def exists(module: str, name: str) -> bool:
    """Whether `from module import name` works."""
    try:
        return hasattr(importlib.import_module(module), name) or bool(importlib.import_module(f"{module}.{name}"))
    except ImportError:
        return False


def is_text(node) -> bool:
    """Whether a node is a text, as the key in `config["train"]["seed"]` is."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
