"""The architecture: which module may import which, what starting costs, what every command and file must have."""

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
# Bottom to top: a module may import those of its own layer and of the layers before it, never those after it. The
# longest name decides, so that one module of `pipeline` may have another layer than the core.
LAYERS = (
    ("pipeline",),  # the core: errors, record, schema, history, manifest, workspace, stage, options, edits, filter, ...
    (
        "pipeline.imaging",
        "pipeline.models",
        "pipeline.html",
        "pipeline.kohya_folders",
        "pipeline.split",
        "pipeline.vectors",
    ),
    (
        "pipeline.engines",
        "pipeline.execution",
        "pipeline.moved_folders",
        "pipeline.orphans",
        "pipeline.recipe",
        "pipeline.sources",
    ),
    ("taggers", "stages"),
    ("training",),
    ("pipeline.checks", "sample_data"),
    ("pipeline.by_hand", "pipeline.registry", "pipeline.given_options", "pipeline.staleness", "pipeline.run"),
    ("pipeline.exchange", "pipeline.review", "pipeline.report", "pipeline.commands"),
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
    "jinja2",
)
LIGHT_TOP = {"click", *PACKAGES, *sys.stdlib_module_names}
OWN_TOP = {"pipeline.review": {"textual", "rich"}}  # its classes derive from a library's; imported when it opens


def module(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for path in SOURCES}


def layer(name):
    """The number of a module's layer: that of the longest entry which names the module or a package around it."""
    return max(
        (len(entry), number)
        for number, entries in enumerate(LAYERS)
        for entry in entries
        if f"{name}.".startswith(f"{entry}.")
    )[1]


def top_imports(tree):
    """Modules imported when the file is loaded: not inside functions, not for type checking."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def our_imports(tree):
    """Our own modules that a file imports anywhere: at its top, inside functions, and for annotations."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [
                name if (name := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            ]
        yield from (name for name in names if name in MODULES)


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
        assert layer(name) <= layer(me), f"{me} imports {name}, which is in a layer above it"
        assert not (me.startswith("training") and name.split(".")[0] in ("stages", "taggers"))


def cycles(graph):
    """The groups of modules that import each other, directly or through others (Tarjan's algorithm)."""
    order, low, stack, found = {}, {}, [], []

    def visit(name):
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in graph[name]:
            if other not in order:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == order[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            found.extend([sorted(group)] if len(group) > 1 else [])

    for name in graph:
        if name not in order:
            visit(name)
    return found


def test_cycles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set(), "f": {"g"}, "g": {"f", "a"}}
    assert cycles(graph) == [["a", "b", "c"], ["f", "g"]]


def test_no_module_imports_itself_through_others():
    """Imports inside functions and for annotations count: a reader follows them too."""
    graph = {me: set(our_imports(ast.parse(path.read_text()))) - {me} for me, path in MODULES.items()}
    assert not (found := cycles(graph)), "\n".join(map(str, found))


def test_every_public_class_has_a_name_of_its_own():
    owners = {}
    for me, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                owners.setdefault(node.name, []).append(me)
    shared = {name: modules for name, modules in owners.items() if len(modules) > 1}
    assert not shared, "\n".join(f"{name}: {', '.join(modules)}" for name, modules in shared.items())


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
            first = re.sub(r"\s+\[[^\[]*\]$", "", option.help)
            assert first[0].isupper() or first[0] in "'0123456789", f"{path}: {option.name}"
            assert first.rstrip().endswith("."), f"{path}: {option.name}: {first}"


@pytest.mark.parametrize("path", SOURCES, ids=module)
def test_style(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{path} has no docstring"
    if path.name != "foreign_names.py":  # a table
        assert text.count("\n") <= 320, f"{path} is longer than 320 lines"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{path}:{node.lineno} {node.name} is longer than 60 lines"
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
            )
            again = any(isinstance(inner, ast.Raise) and (inner.exc is None or inner.cause) for inner in ast.walk(node))
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
    """No file under version control names a path of the machine it was written on."""
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


def test_help_imports_no_command_and_lists_each_by_its_own_summary():
    code = (
        "import sys; from pipeline.cli.main import cli\ncli(['--help'], standalone_mode=False)\n"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    ours = {name for name in done.stdout.splitlines()[-1].split() if name.split(".")[0] in PACKAGES}
    assert ours == {
        "pipeline",
        *(f"pipeline.{name}" for name in ("cli", "cli.lazy_group", "cli.main", "errors", "foreign_output", "ranks")),
    }
    for entry in (entry for entries in COMMANDS.values() for entry in entries):
        assert entry.summary == first_sentence(entry.load()), entry.name


def test_a_stage_command_imports_no_training_loop():
    """`prep build` imports the options of every stage, but the work of none except its own."""
    code = "import sys, pipeline.cli.stages\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert not loaded & {"training.trainer", "training.setup", "training.run", "pipeline.checks.check"}


def test_a_command_is_found_in_the_module_of_its_name():
    """But for those made from the fields of their stages, which are all in `stages`."""
    for entry in (entry for entries in COMMANDS.values() for entry in entries):
        module, _, name = entry.target.partition(":")
        assert module.rstrip("_") == (entry.name if name != "command" or module != "stages" else "stages"), entry


VAGUE = frozenset(
    ("beside", "choose", "look", "mend", "paint", "painted", "settle", "shelf", "spare", "take", "tell", "told", "wish")
)


def test_no_function_has_a_name_that_says_nothing():
    for me, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not me.startswith("sample_data"):  # which paints
                assert node.name.lower().strip("_") not in VAGUE, f"{me}:{node.lineno} {node.name}"


def test_no_test_imports_from_another():
    """What tests share is in conftest.py or in a module that holds no tests."""
    for path in (ROOT / "tests").glob("*.py"):
        assert not re.search(r"\b(from|import) tests(\.| import )test_", path.read_text(encoding="utf-8")), path.name
