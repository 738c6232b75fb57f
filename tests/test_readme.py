"""The README says what is there, and nothing that is not."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_path_that_is_named_is_there() -> None:
    made_by_the_program = ("runs/", "data/", "submissions/", ".venv/")
    for path in re.findall(r"`([\w.]+/[\w./-]*)`", README):
        if not path.startswith(made_by_the_program):
            assert (ROOT / path).exists(), path


def test_every_make_target_that_is_named_is_there() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z0-9-]+)`", README)) | set(
        re.findall(r"^make ([a-z0-9-]+)$", README, re.M)
    )
    assert {"train", "test", "help"} <= named <= targets


def test_make_help_lists_every_target() -> None:
    command = ["make", "--no-print-directory", "help"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()
    assert [line.split()[0] for line in text.splitlines()] == phony


def test_the_tree_names_every_room() -> None:
    tree = README.split("## The tree")[1]
    rooms = {
        path.name
        for path in (ROOT / "src/senone").iterdir()
        if path.name not in ("__init__.py", "__pycache__")
    }
    scripts = {path.name for path in (ROOT / "scripts").glob("*.py")}
    for name in rooms | scripts:
        assert re.search(rf"(?<![\w/]){re.escape(name)}", tree), name


@pytest.mark.parametrize("script", sorted({m for m in re.findall(r"scripts/(\w+\.py)", README)}))
def test_every_script_that_is_named_is_there(script: str) -> None:
    assert (ROOT / "scripts" / script).exists()


def test_every_setting_that_is_named_exists() -> None:
    import dataclasses

    from senone import config

    known = {"data", "experiment", "checkpoint", "root", "split"}
    for schema in vars(config).values():
        if dataclasses.is_dataclass(schema):
            known |= {field.name for field in dataclasses.fields(schema)}
    for line in re.findall(r"python scripts/\w+\.py ([^`\n]*)", README):
        for key in re.findall(r"([\w.]+)=", line):
            for part in key.split("."):
                assert part in known, key


def test_the_constraints_pin_what_the_package_needs() -> None:
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    text = (ROOT / "pyproject.toml").read_text()
    needed = re.findall(r'"([A-Za-z0-9-]+)(?:[<>=].*)?"', text.split("dependencies = [")[1].split("[tool")[0])
    assert {name.lower() for name in needed} - pinned - {"senone"} == set()
