"""A function run in a process of its own, to see how much memory it takes."""

import json
import subprocess
import sys
from typing import Any

PROGRAM = """
import importlib, json, sys
from senone.benchmarks.child import peak_megabytes
function, arguments = json.loads(sys.argv[1])
module, name = function.rsplit(".", 1)
call = getattr(importlib.import_module(module), name)
before = peak_megabytes()
print(json.dumps([call(*arguments), peak_megabytes() - before]))
"""


def run_child(function: str, *arguments: object) -> tuple[Any, float]:
    """What ``module.function`` returns for arguments that JSON can say, and by how many MB it raised the peak
    of an interpreter that has imported the module."""
    command = [sys.executable, "-c", PROGRAM, json.dumps([function, arguments])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result, megabytes = json.loads(done.stdout)
    return result, megabytes


def peak_megabytes() -> float:
    """The most memory this process ever held, pages of mapped files included; nan where Linux cannot say.
    (getrusage would count the peak of the process that started it.)"""
    try:
        with open("/proc/self/status") as status:
            return next(float(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        return float("nan")
