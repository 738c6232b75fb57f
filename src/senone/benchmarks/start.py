"""A training run's start: how long from the command to the first step, and in how much memory it goes on."""

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from senone.benchmarks.child import peak_megabytes
from senone.train import Trainer

SCRIPT = Path(__file__).parents[3] / "scripts" / "train.py"
# runs the script as Python would, but for a watch on its steps
PROGRAM = """
import runpy, sys
from senone.benchmarks.start import watch
watch(int(sys.argv[1]), float(sys.argv[2]))
script, *sys.argv = sys.argv[3], *sys.argv[3:]
runpy.run_path(script, run_name="__main__")
"""


def start_run(overrides: list[str], steps: int) -> tuple[float, float]:
    """Seconds from the start of ``scripts/train.py`` on the CPU to the end of its first step, and the most MB
    it held, mapped files included, until it is stopped after ``steps``."""
    command = [sys.executable, "-c", PROGRAM, str(steps), str(time.monotonic()), str(SCRIPT), "device=cpu"]
    done = subprocess.run([*command, *overrides], capture_output=True, text=True, check=False)
    if done.returncode != 130:  # that of a run which was asked to stop
        raise RuntimeError(f"{SCRIPT.name} ended with status {done.returncode}: {done.stdout}{done.stderr}")
    seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, megabytes


def watch(steps: int, started: float) -> None:
    """Have this process stop after so many steps, as if by Ctrl-C, and print what ``start_run`` returns."""
    step, times = Trainer._step, []

    def watched(*arguments: Any) -> None:
        step(*arguments)
        times.append(time.monotonic())
        if len(times) == steps:
            os.kill(os.getpid(), signal.SIGINT)

    setattr(Trainer, "_step", watched)  # noqa: B010
    atexit.register(lambda: print(json.dumps([times[0] - started, peak_megabytes()])))
