"""handin.tar: Part 1 as the course takes it, one folder ``hw1`` with hw1.py and the plots of a run."""

import ast
import io
import tarfile
from pathlib import Path

from senone import part1
from senone.learning_curves import PLOTS

ROOMS = ("activations", "loss", "batchnorm", "initializers", "mlp", "training")
HEADER = '"""hw1: back-propagation by hand, in numpy alone: the modules of senone.part1 in one."""\n'


def pack(run: Path, target: Path) -> list[str]:
    """Write ``target``, gzipped, with the pictures in the folder ``run``; returns the names of its members.

    ValueError, and no new ``target``, if a picture is missing.
    """
    missing = [name for name in PLOTS if not (run / name).is_file()]
    if missing:
        raise ValueError(f"{run}: no {', '.join(missing)}; scripts/part1.py draws them")
    files = {"hw1.py": write_module().encode()} | {name: (run / name).read_bytes() for name in PLOTS}
    partial = target.with_name(f".{target.name}.partial")
    with tarfile.open(partial, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"hw1/{name}")
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    partial.replace(target)
    return [f"hw1/{name}" for name in files]


def write_module() -> str:
    """The source of hw1.py: the rooms of senone.part1 in one file, with each import once.

    One file, because graders import it both ways: as ``hw1.hw1`` and, from inside its folder, as ``hw1``.
    """
    imported: dict[str, set[str]] = {}
    bodies = []
    for room in ROOMS:
        source = Path(part1.__file__).with_name(f"{room}.py").read_text()
        module = ast.parse(source)
        imports = [node for node in module.body if isinstance(node, ast.Import | ast.ImportFrom)]
        for node in imports:
            if isinstance(node, ast.ImportFrom) and not str(node.module).startswith("senone."):
                imported.setdefault(str(node.module), set()).update(alias.name for alias in node.names)
        comment = "\n".join(f"# {line}".rstrip() for line in (ast.get_docstring(module) or "").splitlines())
        code = "\n".join(source.splitlines()[imports[-1].end_lineno :]).strip("\n")
        bodies.append(f"{comment}\n\n\n{code}\n".replace("  # noqa: NPY002", ""))
    froms = [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(imported.items())]
    head = [HEADER, "from __future__ import annotations\n", *froms, "\nimport numpy as np\n\n"]
    return "\n".join(head) + "\n\n".join(bodies)
