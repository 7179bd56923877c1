"""The borders between rooms: imports run downwards, private names stand behind two fences, light things stay light."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from tests.paths import ROOT

FILES = sorted([*(ROOT / "haan").rglob("*.py"), *(ROOT / "search").rglob("*.py")])
# Each room imports from those of a lower number alone; haan is below all of them.
ROOMS = {
    "haan": 0, "study": 1, "space": 2, "results": 3, "replays": 4, "trials": 4, "page": 4, "driver": 5, "remote": 6,
    "commands": 7,
}  # fmt: skip
WITHOUT_RAY = ("study", "space", "results", "page", "replays")
FENCES = ("search/trials/internals.py", "search/study/internals.py")
# Promised to nobody though no underscore says so: attributes of Ray Tune's and Optuna's trials, modules of Ray.
UNPROMISED = {"run_metadata", "temporary_state", "error_file", "system_attrs", "__class__"}
UNPROMISED_MODULES = ("ray.experimental", "ray.autoscaler", "ray.dashboard")
# What a program of ours, or of Ray's or Linux's, has written is read back as it is; the rest by haan.files alone.
READ_BACK = {
    "haan.data.cache", "haan.figures.folder", "haan.training_folder", "search.driver.batchqueue", "search.driver.given",
    "search.driver.gpus", "search.guard", "search.page.page", "search.remote.head", "search.remote.raynode",
    "search.remote.slurm", "search.remote.slurmnode", "search.results.curves", "search.study.journal",
    "search.trials.internals", "search.trials.trial",
}  # fmt: skip
OTHERWISE_TESTED = {"haan/data/npy.py: pickle._Unpickler"} | {  # in tests/haan/data/test_npy.py and test_optimiser.py
    f"haan/optimiser.py: _PRIVATE.{name}"
    for name in ("_foreach_add_", "_foreach_lerp_", "_fused_adam_", "_fused_adamw_", "_fused_sgd_")
}


def name_of(file: Path) -> str:
    """search/study/journal.py -> search.study.journal."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    package, *rest = module.split(".")
    return "haan" if package == "haan" else rest[0] if len(rest) > 1 else "commands"


MODULES = {name_of(file): ast.parse(file.read_text(encoding="utf-8")) for file in FILES}


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported, within functions and for types, too, and every name from one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, "imports here are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


PACKAGES = {module for module in MODULES if any(other.startswith(f"{module}.") for other in MODULES)}
EDGES = {module: {one for one in imported(tree) if one in MODULES} - PACKAGES for module, tree in MODULES.items()}


def test_every_folder_of_search_has_its_floor() -> None:
    rooms = {file.parent.name for file in (ROOT / "search").glob("*/__init__.py")}
    assert rooms == set(ROOMS) - {"haan", "commands"}


def test_imports_run_downwards_only() -> None:
    upwards = [
        f"{module} imports {other}"
        for module, others in EDGES.items()
        for other in others
        if room_of(module) != room_of(other) and ROOMS[room_of(module)] <= ROOMS[room_of(other)]
    ]
    assert upwards == []


def test_no_imports_run_in_a_circle() -> None:
    for module in PACKAGES:
        assert roots(module) <= sys.stdlib_module_names, "a package's __init__ imports nothing of ours, nor of others"
    try:
        TopologicalSorter(EDGES).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_text_that_people_hand_over_is_read_by_haan_files_alone() -> None:
    readers = {
        module
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr == "read_text" or (node.func.attr == "read_csv" and isinstance(node.args[0], ast.Name))
    }
    assert readers == READ_BACK, "another reader knows nothing of byte-order marks"


def roots(module: str) -> set[str]:
    return {one.split(".")[0] for one in imported(MODULES[module])}


def test_haan_knows_nothing_of_a_search_and_what_has_no_ray_has_none() -> None:
    for module in MODULES:
        banned = {"ray"} if room_of(module) in WITHOUT_RAY else set()
        banned |= {"ray", "optuna", "search"} if room_of(module) == "haan" else set()
        banned |= {"optuna"} if room_of(module) == "remote" or module == "search.driver.screen" else set()
        assert not roots(module) & banned, module


LINT = [
    *((f"haan/{place}new.py", name, True) for place in ("", "data/") for name in ("ray", "optuna", "search")),
    *((f"search/{room}/new.py", "ray", True) for room in WITHOUT_RAY),
    *((f"search/{room}/new.py", "optuna", False) for room in WITHOUT_RAY),
    *((f"search/{room}/new.py", "ray", False) for room in ("trials", "driver", "remote")),
    ("search/remote/new.py", "optuna", True),
    ("search/driver/screen.py", "optuna", True),
    ("search/driver/new.py", "optuna", False),
    ("search/driver/new.py", "search.study.study", False),
    ("tests/new.py", "ray", False),
]


@pytest.mark.parametrize(("file", "name", "banned"), LINT)
def test_the_linter_guards_each_border(file: str, name: str, banned: bool) -> None:
    words = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "TID251", "--stdin-filename", file, "-"]
    ended = subprocess.run(words, input=f"import {name}\n", cwd=ROOT, capture_output=True, text=True)
    assert ("TID251" in ended.stdout) == banned, ended.stdout + ended.stderr


def importable(names: Sequence[str], path: Sequence[str]) -> list[str]:
    return [name for name in names if name in sys.builtin_module_names or PathFinder.find_spec(name, list(path))]


def test_no_entry_of_search_bears_the_name_of_a_module_that_anything_imports() -> None:
    """`python search/run.py` puts search/ first on the path: what lies there would be taken in its place."""
    entries = [*(ROOT / "search").glob("*.py"), *(one for one in (ROOT / "search").iterdir() if one.is_dir())]
    names = [one.stem for one in entries if not one.name.startswith(("__", "."))]
    others = [one for one in sys.path if Path(one or ".").resolve() not in (ROOT, ROOT / "search")]
    assert {"run", "study", "page", "clusters"} <= set(names)
    assert importable(["json", "sys", "torch"], others) == ["json", "sys", "torch"]
    assert importable(names, others) == []


def is_private(name: str | None) -> bool:
    return name is not None and name.startswith("_") and not name.startswith("__")


def is_bound(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store)


def bound_names(one: ast.ClassDef) -> set[str]:
    """The names that a class or its methods bind."""
    nodes = list(ast.walk(one))
    return {ast.unparse(node).rpartition(".")[2] for node in nodes if is_bound(node)} | {
        node.name for node in nodes if isinstance(node, ast.FunctionDef)
    }


def classes_of(trees: Mapping[str, ast.AST]) -> dict[str, ast.ClassDef]:
    return {one.name: one for tree in trees.values() for one in ast.walk(tree) if isinstance(one, ast.ClassDef)}


def with_its_own(one: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> list[ast.ClassDef]:
    """A class and those of this project above it, by their names."""
    found = [one]
    for each in found:
        above = (classes.get(ast.unparse(base)) for base in each.bases)
        found += [base for base in above if base is not None and base not in found]
    return found


def inherited(tree: ast.AST, classes: Mapping[str, ast.ClassDef]) -> Iterator[str]:
    """Private attributes of `self` that neither the class nor one of this project above it binds."""
    for one in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        names = set().union(*map(bound_names, with_its_own(one, classes)))
        for node in ast.walk(one):
            if isinstance(node, ast.Attribute) and is_private(node.attr) and is_own(node) and node.attr not in names:
                yield f"{one.name}'s self.{node.attr}"


def is_own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def private_names(tree: ast.AST) -> Iterator[str]:
    """What others didn't promise: attributes of what is not `self`, arguments, texts that name one, and modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if (is_private(node.attr) and not is_own(node)) or node.attr in UNPROMISED:
                yield ast.unparse(node)
        elif isinstance(node, ast.keyword) and is_private(node.arg):
            yield f"{node.arg}="
        elif isinstance(node, ast.Dict):
            yield from (f"{key.value}=" for key in node.keys if isinstance(key, ast.Constant) and is_text(key.value))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr", "delattr"):
            yield from (
                ast.unparse(node) for name in node.args if isinstance(name, ast.Constant) and is_text(name.value)
            )
    for name in imported(tree):
        if any(map(is_private, name.split("."))) or name.startswith(UNPROMISED_MODULES):
            yield f"import {name}"


def is_text(value: object) -> bool:
    return isinstance(value, str) and value.isidentifier() and is_private(value)


def outside_fences(trees: Mapping[str, ast.AST]) -> list[str]:
    classes = classes_of(trees)
    names = ((file, (*private_names(tree), *inherited(tree, classes))) for file, tree in trees.items())
    found = [f"{file}: {name}" for file, each in names for name in each]
    return [one for one in found if not one.startswith(FENCES) and one not in OTHERWISE_TESTED]


def test_private_names_stand_behind_the_fences_alone() -> None:
    trees = {file.relative_to(ROOT).as_posix(): MODULES[name_of(file)] for file in FILES}
    assert outside_fences(trees) == []
    for fence in FENCES:
        assert list(private_names(trees[fence])), f"{fence} fences nothing in"


LEAKS = [
    "trial._suggest(1)",
    "import ray._private.state",
    "from ray._private import state",
    "from optuna.storages._base import x",
    "from ray.experimental import get_object_locations",
    "from ray.autoscaler import sdk",
    "ray.init(_system_config={})",
    "x = {'_system_config': {}}",
    "getattr(study, '_storage')",
    "trial.__class__ = Other",
    "trial.run_metadata.num_failures -= 1",
    "class Ours(Theirs):\n    def f(self):\n        return self._file_path",
    "class Ours(Theirs):\n    def f(self):\n        return super()._f()",
]


@pytest.mark.parametrize("code", LEAKS)
def test_a_leak_is_found(code: str) -> None:
    assert outside_fences({"search/trials/bridge.py": ast.parse(code)})
    assert not outside_fences({FENCES[0]: ast.parse(code)})


def python(*words: str) -> str:
    ended = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("module", ["haan.cli", "search.guard"])
def test_what_runs_before_anything_is_installed_needs_python_alone(module: str) -> None:
    assert python("-S", "-c", f"import {module}, sys; print('typer' in sys.modules)") == "False\n"


HEAVY = {"torch", "pandas", "faiss", "scipy", "sklearn", "matplotlib", "PIL", "safetensors", "jaxtyping", "rich"}
COMMAND = """
import runpy, sys
try:
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
print()
print(*sys.modules)
"""


@pytest.mark.parametrize(
    "words", ["--help", "evaluate truth.json found.json", "split train.txt val.txt --out OUT", "config --keys"]
)
def test_a_command_that_needs_no_pytorch_imports_nothing_heavy(words: str, tmp_path: Path) -> None:
    segment = {"label": "jump", "segment": [0.0, 2.0]}
    truth, found = {"v": {"subset": "validation", "annotations": [segment]}}, {"v": [{**segment, "score": 1.0}]}
    (tmp_path / "truth.json").write_text(json.dumps({"database": truth}))
    (tmp_path / "found.json").write_text(json.dumps({"results": found}))
    lines = [f"video{video:06d}_E_000001_000009_A_000{label}_0009 {label}\n" for video in range(16) for label in (0, 1)]
    (tmp_path / "train.txt").write_text("".join(lines[:20]))
    (tmp_path / "val.txt").write_text("".join(lines[20:]))
    given = [str(tmp_path / word) if "." in word or word == "OUT" else word for word in words.split()]
    shown, _, modules = python("-c", COMMAND, "haan", *given).strip().rpartition("\n")
    assert shown and {"haan", "typer", "numpy"} <= set(modules.split())
    assert HEAVY & set(modules.split()) == set()


def test_a_laptop_that_sends_a_search_on_imports_no_pytorch() -> None:
    heavy = "import sys; print([name for name in ('torch', 'pandas', 'ray.tune') if name in sys.modules])"
    assert python("-c", f"import search.run, search.remote.submit, search.remote.head; {heavy}") == "[]\n"


def test_a_listing_and_a_report_import_no_pytorch_and_of_scipy_one_function(tmp_path: Path) -> None:
    heavy = "import sys; print([name for name in ('torch', 'scipy', 'sklearn') if name in sys.modules])"
    assert python("-c", f"import search.results.listing, search.page.page; {heavy}") == "[]\n"
    run = Path(shutil.copytree(ROOT / "tests" / "frozen" / "finished", tmp_path / "finished"))
    for words in (["runs", str(tmp_path)], ["report", str(run)]):
        shown, _, modules = python("-c", COMMAND, "search", *words).strip().rpartition("\n")
        assert "finished" in shown and "optuna" in modules.split()
        assert {"torch", "faiss", "sklearn", "scipy.stats"} & set(modules.split()) == set()
        assert "scipy.special" in modules.split(), "the interval of the gain is shown"
