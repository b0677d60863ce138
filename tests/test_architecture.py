"""The rules of the house: who may import whom, what starting costs, what every command and file must have."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from pipeline.cli.main import COMMANDS
from pipeline.cli.run_options import first_sentence
from pipeline.registry import STAGES, TAGGERS, tables
from tests.shell import commands

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pipeline", "stages", "taggers", "training", "sample_data")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
# Each may import those before it. What a package is not named with may import nothing of ours above it.
FLOORS = (
    ("pipeline.errors", "pipeline.tag_text", "pipeline.schema", "sample_data.world"),
    ("pipeline.ranks",),
    ("pipeline.record", "pipeline.clip_bpe"),
    ("pipeline.clip_tokens",),
    ("pipeline.stage", "pipeline.workspace", "pipeline.link"),
    ("pipeline.imaging",),
    ("pipeline.html",),
    ("pipeline.edits", "pipeline.filter_terms", "pipeline.filter", "pipeline.split"),
    ("pipeline.manifest", "pipeline.options", "pipeline.progress"),
    ("pipeline.models", "pipeline.vectors"),
    ("pipeline.engines", "pipeline.partial_results", "pipeline.recipe"),
    ("pipeline.sources",),
    ("taggers",),
    ("stages",),
    ("training",),
    ("sample_data",),
    ("pipeline.checks",),
    ("pipeline.run",),
    ("pipeline.registry",),
    ("pipeline.exchange",),
    ("pipeline.review",),
    ("pipeline.report",),
    ("pipeline.commands",),
    ("pipeline.cli",),
)
HEAVY = (
    "numpy",
    "PIL",
    "cv2",
    "pyvips",
    "pandas",
    "pyarrow",
    "torch",
    "ray",
    "diffusers",
    "transformers",
    "rich",
    "textual",
    "onnxruntime",
)
LIGHT_TOP = {"click", *PACKAGES, *sys.stdlib_module_names}
OWN_TOP = {"pipeline.review": {"textual", "rich"}}  # a room whose classes are made of a library's; loaded when it opens


def module(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def floor(name):
    fits = [
        (len(entry), number)
        for number, entries in enumerate(FLOORS)
        for entry in entries
        if f"{name}.".startswith(f"{entry}.")
    ]
    assert fits, f"{name} has no floor: give it one in FLOORS"
    return max(fits)[1]


def top_imports(tree):
    """Modules imported when the file is loaded: not inside functions, not for type checking."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def our_imports(tree):
    """Our own modules imported anywhere in the file, but for those that only annotations need."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
            one = f"{node.module}." if node.module in PACKAGES else ""
            yield from (f"{one}{alias.name}" if one else node.module for alias in node.names)
        yield from our_imports(node)


@pytest.mark.parametrize("path", SOURCES, ids=module)
def test_imports_point_downwards_and_tops_are_light(path):
    me = module(path)
    if me in PACKAGES or path.name == "__init__.py":
        assert len(ast.parse(path.read_text()).body) == 1, f"{me}: an __init__ holds a docstring and nothing else"
        return
    tree = ast.parse(path.read_text())
    for name in top_imports(tree):
        allowed = LIGHT_TOP | OWN_TOP.get(me.rpartition(".")[0], set())
        assert name.split(".")[0] in allowed, f"{me} imports {name} at its top"
    for name in our_imports(tree):
        assert floor(name) <= floor(me), f"{me} imports {name}, which stands above it"
        assert not (me.startswith("training") and name.split(".")[0] in ("stages", "taggers"))


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from pipeline.cli.main import cli\n"
        "cli(['--help'], standalone_mode=False)\n"
        f"print('LOADED', *(m for m in {HEAVY!r} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "LOADED"


@pytest.mark.parametrize(
    ("path", "command"), list(commands()), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_and_option_has_help(path, command):
    assert command.help and command.help.strip()[0].isupper()
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{path}: {option.name}"
            first = re.sub(r"\s+\[.*", "", option.help)
            assert first[0].isupper() or first[0] in "'0123456789", f"{path}: {option.name}"
            assert first.rstrip().endswith("."), f"{path}: {option.name}: {first}"


@pytest.mark.parametrize("path", SOURCES, ids=module)
def test_style(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{path} says nothing about itself"
    assert text.count("\n") <= 320, f"{path} does not fit a head"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{path}:{node.lineno} {node.name} does not fit a screen"
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
            )
            again = any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
            assert not broad or again, f"{path}:{node.lineno} swallows everything"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "print") or path.name == "progress.py", f"{path}:{node.lineno}"
    assert not re.search(r"pickle\.(load|dump)|subprocess|os\.system|shell=True", text), (
        f"{path} pickles or runs a shell"
    )
    assert path.stem not in ("utils", "common", "helpers", "misc")


def test_registries_name_things_by_their_own_names():
    for table in (STAGES, TAGGERS):
        assert all(cls.name == name for name, cls in table.items())
    for name, cls in (STAGES | TAGGERS).items():
        assert cls.__module__.endswith(f".{name}")
    assert {name.partition(".")[0] for name in tables()} >= set(STAGES)


def test_the_project_names_no_machine():
    """Nothing of the place where prep was written stands in what git keeps."""
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False).stdout.split()
    for name in listed:
        path = ROOT / name
        if (
            path.suffix in (".py", ".md", ".toml", ".txt", ".yml", "")
            and path.is_file()
            and path.name != "test_architecture.py"
        ):
            text = path.read_text(encoding="utf-8", errors="ignore")
            assert not re.search(r"(^|[\s'\"=(])/(work|root|home)/", text), name


def test_help_imports_no_command_and_says_what_each_says_of_itself():
    code = (
        "import sys; from pipeline.cli.main import cli\ncli(['--help'], standalone_mode=False)\n"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    ours = {name for name in done.stdout.splitlines()[-1].split() if name.split(".")[0] in PACKAGES}
    assert ours == {
        "pipeline",
        *(f"pipeline.{name}" for name in ("cli", "cli.lazy_group", "cli.main", "errors", "ranks")),
    }
    for entry in (entry for entries in COMMANDS.values() for entry in entries):
        assert entry.summary == first_sentence(entry.load()), entry.name


def test_a_stage_is_called_without_the_trainers_loop():
    """What `prep build` imports before it works: the options of every stage, the work of none that it does not do."""
    code = "import sys, pipeline.cli.stages\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert not loaded & {"training.trainer", "training.setup", "training.run", "pipeline.checks.check"}
