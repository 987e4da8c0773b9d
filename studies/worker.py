"""Many measurements: each with its own number of torch threads, in this process or spread over several."""

import copyreg
import importlib
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def torch_threads(count: int = 1) -> Iterator[None]:
    """Compute with this many torch threads: a sum differs in its last bits with the number of its parts.

    A result is to be the same in any worker and on any machine, so each measurement fixes its number itself.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def spread(task: Callable[[T], R], items: Iterable[T], jobs: int) -> Iterator[R]:
    """Yield ``task(item)`` of every item as it is ready, from ``jobs`` processes; from this one if jobs is 1."""
    items = list(items)
    if jobs <= 1 or len(items) <= 1:
        yield from map(task, items)
        return
    from joblib import Parallel, delayed

    jobs = min(jobs, len(items))
    # loky replaces a worker whose memory has grown and gives its jobs to another: nothing is lost, no one need know
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given to the executor")
    pool = Parallel(n_jobs=jobs, return_as="generator_unordered", initializer=_leave_with, initargs=(os.getpid(),))
    yield from pool(delayed(task)(item) for item in items)  # pyright: ignore[reportReturnType]


def _leave_with(parent: int) -> None:
    """End this worker when its parent has ended, not before it and not later.

    After kill -9 it would go on, in the way of the run that takes over; at Ctrl-C, which a terminal sends to all, it
    would print a traceback.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def reduced(entry: Any, function: Callable) -> tuple:
    """What ``__reduce__`` of a registry entry returns: the name it has in its module, if any, else its parts.

    A worker then imports the module once, rather than unpickling the function with all that it refers to every time.
    """
    module, name = function.__module__, function.__name__
    if module != "__main__" and getattr(sys.modules.get(module), name, None) is entry:
        return _named, (module, name)
    return copyreg.__newobj__, (type(entry),), entry.__dict__  # pyright: ignore[reportAttributeAccessIssue]


def _named(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)
