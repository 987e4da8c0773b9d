"""Commands, exit statuses, sentences instead of tracebacks, and an answer to --help before anything heavy is loaded."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from studies.claim import FAILS, claim, near
from studies.cli import main
from studies.store import Store, StoreError
from studies.study import study
from theory.estimate import Estimate
from toy_distributions.registry import Registry

ROOT = Path(__file__).parents[2]
truth = {"ddim.order": 1.0, "drift": 0.0}


@pytest.fixture(autouse=True)
def house(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A house with three claims and one study, and a folder to work in."""
    monkeypatch.setattr("studies.claim.CLAIMS", Registry("claim"))
    monkeypatch.setattr("studies.study.STUDIES", Registry("study", "studies"))
    monkeypatch.setattr("studies.discover.discover", lambda: None)
    monkeypatch.setenv("EXACTSCORE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(truth, "ddim.order", 1.0)
    monkeypatch.setitem(truth, "drift", 0.0)

    @claim("ddim.order", statement="Order [x_0] is 1.", source="a2020", accepted=near(1, 0.1), control={"turn": 3.0})
    def order(turn: float = 0.0) -> Estimate:
        return Estimate(truth["ddim.order"] + turn, 0.001, "slope")

    @claim(
        "ddim.false",
        statement="It is 2.",
        source="a2020",
        accepted=near(2, 0.1),
        control={"repair": 1.0},
        expected=FAILS,
        finding="It is 1.",
    )
    def false(repair: float = 0.0) -> Estimate:
        return Estimate(1 + repair)

    @claim("edm.breaks", statement="It works.", source="a2020", accepted=near(1, 0.1), control={"value": 2.0})
    def breaks(value: float = 1.0) -> Estimate:
        raise RuntimeError("no convergence")

    @study("small", question="Is it small, and how small?", axes={"law": ["one", "two"], "steps": [1, 2]})
    def small(law: str, steps: int, *, seed: int) -> dict[str, float]:
        return {"error": 0.1 / steps + truth["drift"]}

    @study("empty_house", question="Is there data?", axes={"a": [1]}, available=lambda: "no data here.")
    def empty_house(a: int, *, seed: int) -> dict[str, float]:
        return {}


def exactscore(*arguments: str, status: int = 0) -> Result:
    """Run a command and check its exit status, and that no traceback is shown."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result


def sentence(*arguments: str) -> str:
    """What a command says that cannot be done: one line on stderr."""
    result = exactscore(*arguments, status=2)
    assert result.stdout == "" and result.stderr.startswith("exactscore: ") and result.stderr.count("\n") == 1
    return result.stderr.removeprefix("exactscore: ").strip()


def test_verify_prints_verdicts_and_a_summary():
    result = exactscore("verify", "ddim")
    assert [" ".join(line.split()) for line in result.stdout.splitlines()] == [
        "claim predicted measured verdict control its verdict",
        "ok ddim.false 1.9 .. 2.1 1 ± 0 FAILS 2 ± 0 HOLDS",
        "It is 2.",
        "ok ddim.order 0.9 .. 1.1 1 ± 0.001 HOLDS 4 ± 0.001 FAILS",
        "Order [x_0] is 1.",
        "2 claims checked, 2 as recorded.",
    ]


@pytest.mark.parametrize(
    ("ids", "checked"),
    [
        (["ddim.order"], 1),
        (["ddim"], 2),
        (["ddim."], 2),
        (["ddim.o"], 1),
        (["ddim.*"], 2),
        (["*.order"], 1),
        (["ddim", "ddim.order", "d*"], 2),
    ],
)
def test_ids_may_be_beginnings_and_patterns(ids: list[str], checked: int):
    assert f"{checked} claims checked" in exactscore("verify", *ids).stdout


def test_a_verdict_that_differs_is_status_1():
    truth["ddim.order"] = 1.1
    result = exactscore("verify", "ddim", status=1)
    assert "DIFFERS  ddim.order" in result.stdout and "OPEN" in result.stdout
    assert "2 claims checked, 1 as recorded; ddim.order differs." in result.stdout
    truth["ddim.order"] = 1.0
    exactscore("verify", "ddim", status=1)  # remembered
    exactscore("verify", "ddim", "--fresh")


def test_a_claim_that_breaks_is_status_1_and_the_others_are_checked():
    result = exactscore("verify", status=1)
    assert "RuntimeError: no convergence" in result.stdout and "ERROR" in result.stdout
    assert result.stdout.endswith("3 claims checked, 2 as recorded; edm.breaks differs.\n")


def test_an_unknown_claim_is_told_the_nearest():
    assert sentence("verify", "ddmi") == (
        "no claim begins with 'ddmi'; did you mean 'ddim'? 'exactscore list claims' shows all 3."
    )
    assert "did you mean 'ddim.order'?" in sentence("verify", "ddim.oder")
    assert "no claim begins with 'zzz*'; 'exactscore list" in sentence("verify", "zzz*")


def test_run_prints_the_table_or_writes_it(tmp_path: Path):
    result = exactscore("run", "small", "--only", "law=two")
    assert [line.split()[:3] for line in result.stdout.splitlines()] == [
        ["law", "steps", "error"],
        ["two", "1", "0.10"],
        ["two", "2", "0.05"],
    ]
    assert result.stderr.startswith("exactscore: small: 2 cells, 2 measured now in ")
    exactscore("run", "small", "--out", "new/folder/table.csv")
    lines = (tmp_path / "new/folder/table.csv").read_text().splitlines()
    assert lines[0] == "law,steps,error,key" and lines[4].startswith("two,2,0.05,") and len(lines) == 5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "smal"], "no study named 'smal'; did you mean 'small'? 'exactscore list studies' shows all 2."),
        (["run", "small", "--only", "law"], "--only takes axis=value; got 'law'."),
        (
            ["run", "small", "--only", "lwa=one"],
            "study small has no axis 'lwa'; did you mean 'law'? It has: law, steps.",
        ),
        (["run", "small", "--only", "law=on"], "axis law has no value 'on'; did you mean 'one'? It has: one, two."),
        (["run", "empty_house"], "study empty_house cannot run here: no data here."),
        (
            ["replay", "1234"],
            "a key is at least 8 hex digits, as the report and the key column of a table show; got '1234'.",
        ),
        (
            ["replay", "ddim.order"],
            "claim ddim.order has no stored result yet; run 'exactscore verify ddim.order' first.",
        ),
        (
            ["report", "--skip", "smal"],
            "no study named 'smal'; did you mean 'small'? 'exactscore list studies' shows all 2.",
        ),
    ],
)
def test_misuse_is_one_sentence(arguments: list[str], expected: str):
    assert sentence(*arguments) == expected


@pytest.mark.parametrize(
    "arguments", [["list", "clowns"], ["run", "small", "--device", "tpu"], ["run", "small", "--jobs", "0"], ["nothing"]]
)
def test_misuse_that_click_sees_is_status_2_too(arguments: list[str]):
    assert "Error:" in exactscore(*arguments, status=2).stderr


def test_a_store_that_cannot_be_written_is_one_sentence(tmp_path: Path):
    (tmp_path / "file").touch()
    said = sentence("--store", str(tmp_path / "file" / "store.sqlite"), "verify", "ddim")
    assert said == f"the store needs a folder it can write; {tmp_path / 'file'}: File exists."


def test_a_full_disk_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise StoreError("the disk that holds the store is full.")

    monkeypatch.setattr(Store, "put", full)
    assert sentence("run", "small") == sentence("verify", "ddim") == "the disk that holds the store is full."


def test_a_program_error_is_one_line_and_debug_shows_where(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("studies.discover.discover", lambda: {}["x"])
    assert sentence("list", "claims") == "KeyError: 'x' ('exactscore --debug ...' shows where)"
    result = CliRunner().invoke(main, ["--debug", "list", "claims"])
    assert isinstance(result.exception, KeyError)


def stored_key() -> str:
    exactscore("run", "small", "--out", "t.csv")
    return Path("t.csv").read_text().splitlines()[2].split(",")[-1]


def test_replay_of_a_cell():
    key = stored_key()
    result = exactscore("replay", key[:8])
    lines = result.stdout.splitlines()
    assert lines[0].startswith("cell small: law=one, steps=2, on cpu, seed ") and "by this code" in lines[1]
    assert lines[2].split() == ["stored", "measured", "now"]
    assert lines[3].split() == ["error", "0.05", "0.05"] and lines[-1] == "identical."
    truth["drift"] = 1e-17  # the last digit
    result = exactscore("replay", key, status=1)
    assert "0.05000000000000001" in result.stdout and result.stdout.endswith("NOT identical.\n")


def test_replay_of_a_claim():
    exactscore("verify", "ddim")
    by_id = exactscore("replay", "ddim.order").stdout
    assert by_id.endswith("identical.\n") and "claim ddim.order, on cpu" in by_id
    with Store() as store:
        keys = [row[0] for row in store._ask("SELECT key FROM results WHERE kind = 'claim'")]
    assert by_id in [exactscore("replay", key).stdout for key in keys]
    truth["ddim.order"] = 1.05
    assert "1.05" in exactscore("replay", "ddim.order", status=1).stdout
    truth["ddim.order"] = float("nan")
    assert "the claim broke now; ValueError: an Estimate" in exactscore("replay", "ddim.order", status=1).stdout


def test_replay_of_what_is_there_no_more(monkeypatch: pytest.MonkeyPatch):
    from studies.study import STUDIES, Study

    key = stored_key()
    assert sentence("replay", "0" * 16).startswith("no stored result has a key that begins with 0000")
    with Store() as store:
        store._ask("UPDATE results SET key = '00000000' || substr(key, 9)")
    assert "begins several keys, 00000000" in sentence("replay", "0" * 8)
    with Store() as store:
        store._ask("DELETE FROM results")
    key = stored_key()
    small = STUDIES["small"]
    monkeypatch.setitem(STUDIES._entries, "small", Study("small", "?", small.axes, 2, small.cell))
    assert sentence("replay", key) == "that cell is of small, version 1; the study is now 2."
    monkeypatch.delitem(STUDIES._entries, "small")
    assert sentence("replay", key).startswith("no study named 'small'")
    with Store() as store:
        store._ask("UPDATE results SET code = 'x'")
    result = exactscore("replay", key, status=2)
    assert result.stderr.endswith(f"the stored result {key} is corrupt; run its study or claim again.\n")


def test_report_hands_over_what_it_is_told(monkeypatch: pytest.MonkeyPatch):
    told: dict = {}

    def write_report(out: Path, **options: object) -> int:
        told.update(out=out, **options)
        return 1

    monkeypatch.setitem(sys.modules, "studies.report", SimpleNamespace(write_report=write_report))
    exactscore("report", "--out", "there", "--jobs", "2", "--fresh", "--skip", "small", status=1)
    assert isinstance(told.pop("store"), Store)
    assert told == {"out": Path("there"), "jobs": 2, "fresh": True, "skip": ("small",), "device": "cpu"}


def test_data_describes_or_says_why_not(monkeypatch: pytest.MonkeyPatch):
    from studies.cifar10 import data

    monkeypatch.setattr(data, "describe", lambda folder: [f"source  {folder}", "train 50,000"])
    assert exactscore("data", "cifar10", "--folder", "here").stdout == "source  here\ntrain 50,000\n"

    def missing(folder: object) -> None:
        raise data.DataUnavailable("no copy was found.")

    monkeypatch.setattr(data, "describe", missing)
    assert sentence("data", "cifar10") == "no copy was found."


@pytest.mark.parametrize("room", ["laws", "processes", "solvers"])
def test_list_shows_every_entry(room: str):
    from studies.discover import registry

    shown = [line.split()[0] for line in exactscore("list", room).stdout.splitlines()]
    assert shown[0] == registry(room).kind and set(registry(room)) <= set(shown)


def test_list_shows_claims_and_studies():
    claims = exactscore("list", "claims").stdout
    assert "Order [x_0] is 1." in claims and "FAILS" in claims and len(claims.splitlines()) == 4
    assert "small        4      Is it small, and how small?" in exactscore("list", "studies").stdout


def test_help_shows_examples():
    assert "exactscore run order --jobs 2" in exactscore("--help").stdout
    for command in main.commands:
        assert "Usage:" in exactscore(command, "--help").stdout


HEAVY = ("torch", "numpy", "scipy", "pandas", "matplotlib", "rich", "joblib", "toy_distributions", "theory", "ot")


def test_importing_the_command_line_loads_nothing_heavy():
    program = f"import sys, studies.cli; print([m for m in {HEAVY} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite run in the background inherits an ignored one
import studies.discover
studies.discover.discover = lambda: None
from studies.cli import main
from studies.study import study

@study("slow", question="When?", axes={"a": list(range(1000))})
def slow(a, *, seed):
    time.sleep(0.01)
    open("started", "a").write(".")
    return {"x": 1.0}

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_is_status_130_and_one_line_on_how_to_go_on(jobs: str, tmp_path: Path):
    (tmp_path / "slow.py").write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, "slow.py", "run", "slow", "--jobs", jobs],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not (tmp_path / "started").exists():
        time.sleep(0.01)
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to the workers too
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "exactscore: stopped; what was measured is kept, and the same command goes on.\n"
    with Store() as store:
        kept = store._ask("SELECT count(*) FROM results")[0][0]
    started = len((tmp_path / "started").read_text())
    assert 0 < kept <= started <= kept + int(jobs)
