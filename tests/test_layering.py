"""Who may import whom: the rooms of the house, from the ground up."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "senone"

# A room imports rooms above it in this list, and never one below it. A folder is one room.
ROOMS = [
    "phonemes",
    "config",
    "part1",
    "twin",
    "twin_run",
    "digits",
    "learning_curves",
    "handin",
    "corpus",
    "frames",
    "moments",
    "speakers",
    "preparation",
    "windows",
    "dataset",
    "task6",
    "models",
    "augment",
    "loss",
    "optim",
    "decode",
    "checkpoint",
    "runlog",
    "comparison",
    "device",
    "evaluate",
    "ensemble",
    "processes",
    "progress",
    "train",
    "submission",
    "report",
    "run",
    "inference",
    "benchmarks",
    "hydra_glue",
]


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE or path.name != "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_only_go_down_the_list(path: Path) -> None:
    room = room_of(path)
    assert room in ROOMS, f"{room} has no place in the list"
    for name in imports_of(path):
        if name.startswith("senone."):
            other = name.split(".")[1]
            if other in ROOMS:
                assert ROOMS.index(other) <= ROOMS.index(room), f"{room} imports {name}"


def test_every_room_of_the_list_is_there() -> None:
    assert set(ROOMS) == {room_of(path) for path in FILES}


def test_hydra_is_imported_in_one_file_alone() -> None:
    users = {
        path.name
        for path in SOURCE.rglob("*.py")
        if any(name.split(".")[0] in ("hydra", "omegaconf") for name in imports_of(path))
    }
    assert users == {"hydra_glue.py"}


def test_part1_imports_numpy_and_the_standard_library_alone() -> None:
    for path in (SOURCE / "part1").glob("*.py"):
        tops = {name.split(".")[0] for name in imports_of(path)}
        assert tops <= {"numpy", "senone", *sys.stdlib_module_names}
        assert all(n.startswith("senone.part1") for n in imports_of(path) if n.startswith("senone"))


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").glob("*.py")), ids=lambda path: path.name)
def test_a_script_is_thin(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 40


def test_no_pickle_is_opened_without_restriction() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        for door in ("allow_pickle=True", "weights_only=False", "pickle.load"):
            assert door not in text, f"{path.name}: {door}"


@pytest.mark.parametrize(
    ("blocked", "modules"),
    [
        (["hydra", "omegaconf"], ["senone", "senone.run", "senone.inference", "senone.config"]),
        (["torch", "hydra", "pandas"], ["senone", "senone.part1"]),
        (["espeakng_loader", "kaldi_native_fbank", "scipy"], ["senone.run", "senone.corpus.synthesis"]),
        (["soundfile", "praatio", "kaldi_native_fbank"], ["senone.run", "senone.corpus.audio"]),
        (["matplotlib"], ["senone.run", "senone.inference"]),
    ],
)
def test_what_is_not_needed_need_not_be_installed(blocked: list[str], modules: list[str]) -> None:
    program = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in blocked)
    program += "".join(f"import {name}\n" for name in modules)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
