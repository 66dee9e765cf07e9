"""The other end of a bench process: one JSON request a line on stdin, one JSON answer a line on stdout.

    load   workload settings, .npz of arrays → ready
    check  .npz of batches and noise, .npz to write → the losses and weights after the steps
    time   seconds → steps done, seconds taken
    about  → instruction set by library, number of threads

Between requests a process waits for its stdin, so that only one at a time uses the cores.
"""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np


def serve(make) -> None:
    """Answers until stdin ends.

    Args:
        make: maps (settings, weights, rows) to an object with `check(batches, noise) -> arrays by name`,
            `run() -> steps done`, the shortest run that its code base takes, and `about() -> (isa, threads)`. Batches
            and rows are dicts of arrays by name, batches with a leading axis of steps.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    implementation = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict = {}
        if request["do"] == "load":
            arrays = _read(request["arrays"])
            implementation = make(request["settings"], _part(arrays, "weights/"), _part(arrays, "rows/"))
        elif request["do"] == "check":
            arrays = _read(request["arrays"])
            found = implementation.check(_part(arrays, "rows/"), arrays["noise"])
            np.savez(request["out"], **{key: np.asarray(value) for key, value in found.items()})
        elif request["do"] == "time":
            start, steps = time.perf_counter(), 0
            while time.perf_counter() - start < request["seconds"]:
                steps += implementation.run()
            answer = {"steps": steps, "seconds": time.perf_counter() - start}
        elif request["do"] == "about":
            answer = dict(zip(("isa", "threads"), implementation.about(), strict=True))
        print(json.dumps(answer), file=answers, flush=True)


def epsilon(step: int) -> float:
    """Adam's ε for the check: MindSpore adds its 1e-8 before the bias correction of step 1, 2, …, others after it."""
    return 1e-8 / (1.0 - 0.999**step) ** 0.5


def _read(path: str) -> dict:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _part(arrays: dict, prefix: str) -> dict:
    return {key[len(prefix) :]: value for key, value in arrays.items() if key.startswith(prefix)}
