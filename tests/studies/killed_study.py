"""A study of 40 short cells, run in a child process for every line "STORE JOBS" on stdin; the child may be killed.

Forking spares each child the seconds that importing torch takes: fifty kills in a few seconds. Each answer is a line:
the child's process id first, its exit status when it has ended.
"""

import os
import sys
import time
from pathlib import Path

import pandas as pd  # noqa: F401  # for the children
import torch

from studies.store import Store
from studies.study import Study


def measure(a: int, b: str, *, seed: int) -> dict[str, float | str]:
    time.sleep(0.002)
    with open(os.environ["MEASURED"], "ab", buffering=0) as log:
        log.write(b".")
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1000, dtype=torch.float64, generator=generator)
    return {"mean": x.mean().item(), "largest": float("inf") if a == 3 else x.max().item(), "word": b * a}


measure = Study("killed", "Does a killed run resume?", {"a": list(range(10)), "b": list("wxyz")}, 1, measure)


def run(path: str, jobs: int) -> None:
    with Store(path) as store:
        table = measure.run(store, jobs=jobs, progress=False)
    part = Path(path + ".part")
    table.to_csv(part, index=False)
    part.rename(path + ".csv")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(sys.argv[1], int(sys.argv[2]))
        sys.exit()
    torch.set_num_threads(1)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(line.split()[0], int(line.split()[1]))
            os._exit(0)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
