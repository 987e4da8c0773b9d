"""Cells, choices of cells, what is measured and what is not, and what misuse is told."""

from pathlib import Path

import pytest
import torch

from studies.store import Store
from studies.study import Study, study
from toy_distributions.registry import Registry

AXES = {"solver": ["ddim", "heun.k"], "law": ["one", "two"], "steps": [1, 2, 10]}


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("studies.study.STUDIES", Registry("study", "studies"))


@pytest.fixture
def calls() -> list[tuple]:
    return []


@pytest.fixture
def tiny(calls: list[tuple]) -> Study:
    def cell(solver: str, law: str, steps: int, *, seed: int) -> dict[str, float]:
        calls.append((solver, law, steps))
        return {"error": 1 / steps}

    enter = study("tiny", question="Is it small?", axes=AXES, where=lambda c: (c["law"], c["steps"]) != ("two", 10))
    return enter(cell)


def test_a_study_is_entered_and_is_still_its_cell(tiny: Study):
    from studies.study import STUDIES

    assert STUDIES["tiny"] is tiny and STUDIES.describe("tiny") == "Is it small?"
    assert tiny(solver="ddim", law="one", steps=4, seed=1) == {"error": 0.25}


def test_cells_run_in_the_order_of_the_axes_less_the_impossible(tiny: Study, calls: list[tuple], tmp_path: Path):
    expected = [(s, l, n) for s in ("ddim", "heun.k") for l in ("one", "two") for n in (1, 2, 10)]
    expected = [cell for cell in expected if cell[1:] != ("two", 10)]
    with Store(tmp_path / "store") as store:
        table = tiny.run(store, progress=False)
        assert calls == [tuple(row) for row in table[["solver", "law", "steps"]].values.tolist()] == expected
        assert list(table.columns) == ["solver", "law", "steps", "error", "key"] and table["key"].is_unique
        tiny.run(store, progress=False)
        assert len(calls) == 10
        tiny.run(store, fresh=True, progress=False)
        assert len(calls) == 20


def test_only_matches_values_as_strings_and_measures_no_more(tiny: Study, calls: list[tuple], tmp_path: Path):
    with Store(tmp_path / "store") as store:
        table = tiny.run(store, only={"steps": ["10", "1"], "law": ["one"]}, progress=False)
        assert table["steps"].tolist() == [1, 10, 1, 10] and len(calls) == 4
        assert len(tiny.run(store, progress=False)) == 10 and len(calls) == 10


@pytest.mark.parametrize(
    ("only", "sentence"),
    [
        (
            {"solvr": ["ddim"]},
            "study tiny has no axis 'solvr'; did you mean 'solver'? It has: solver, law, steps.",
        ),
        (
            {"solver": ["heun"]},
            "axis solver has no value 'heun'; did you mean 'heun.k'? It has: ddim, heun.k.",
        ),
        ({"steps": ["1.0", "x"]}, "axis steps has no value '1.0'; did you mean '10'? It has: 1, 2, 10."),
        ({"law": ["zzz"]}, "axis law has no value 'zzz'. It has: one, two."),
        (
            {"law": ["two"], "steps": ["10"]},
            "study tiny has no cell with {'law': ['two'], 'steps': ['10']}; it leaves out that combination.",
        ),
    ],
)
def test_a_wrong_choice_is_told_what_there_is(only: dict, sentence: str, tiny: Study, tmp_path: Path):
    with Store(tmp_path / "store") as store, pytest.raises(ValueError) as error:
        tiny.run(store, only=only, progress=False)
    assert str(error.value) == sentence


def test_nan_stops_the_run_and_names_cell_and_column(tmp_path: Path):
    @study("nan", question="Is it a number?", axes={"a": [1, 2]})
    def nan(a: int, *, seed: int) -> dict[str, float]:
        return {"fine": 1.0, "kl_nats": float("nan") if a == 2 else 0.0}

    with Store(tmp_path / "store") as store:
        with pytest.raises(ValueError) as error:
            nan.run(store, progress=False)
        assert str(error.value) == (
            "no NaN travels silently, so a result must hold none; nan gave NaN as 'kl_nats' at {'a': 2}."
        )
        assert store.get(nan.address({"a": 2})) is None and store.get(nan.address({"a": 1})) is not None


def test_a_study_without_its_data_says_why_but_shows_what_is_stored(tmp_path: Path):
    reason: list[str] = []

    @study("data", question="What is in it?", axes={"a": [1]}, available=lambda: reason[0] if reason else None)
    def data(a: int, *, seed: int) -> dict[str, float]:
        return {"x": 1.0}

    with Store(tmp_path / "store") as store:
        reason.append("no images here.")
        with pytest.raises(ValueError, match=r"^study data cannot run here: no images here\.$"):
            data.run(store, progress=False)
        reason.clear()
        data.run(store, progress=False)
        reason.append("no images here.")
        assert len(data.run(store, progress=False)) == 1


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: Study):
    @study("device", question="Where is it?", axes={"a": [1]})
    def on_device(a: int, *, seed: int, device: str) -> dict[str, str]:
        return {"device": device}

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with Store(tmp_path / "store") as store:
        with pytest.raises(ValueError, match=r"device 'cuda' needs a CUDA device, and torch sees none; use 'cpu'\.$"):
            on_device.run(store, device="cuda", progress=False)
        assert len(tiny.run(store, device="cuda", progress=False)) == 10
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert on_device.run(store, device="cuda", progress=False)["device"].tolist() == ["cuda"]
        assert on_device.run(store, progress=False)["device"].tolist() == ["cpu"]


def test_figures_are_functions_of_the_table(tiny: Study):
    @tiny.figure("errors", caption="Smaller is better.")
    def errors(table):
        return len(table)

    assert tiny.figures["errors"].draw is errors and tiny.figures["errors"].caption == "Smaller is better."
    with pytest.raises(ValueError, match="needs a name of its own; tiny has 'errors' already"):
        tiny.figure("errors")(errors)


def test_max_jobs_limits_the_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, calls: list[tuple]):
    @study("large", question="Does it fit?", axes={"a": [1, 2, 3]}, max_jobs=1)
    def large(a: int, *, seed: int) -> dict[str, float]:
        calls.append((a,))  # seen here only if the cell runs in this process
        return {}

    with Store(tmp_path / "store") as store:
        large.run(store, jobs=4, progress=False)
    assert len(calls) == 3


def test_the_last_line_says_what_was_done(tiny: Study, tmp_path: Path, capsys: pytest.CaptureFixture):
    with Store(tmp_path / "store") as store:
        tiny.run(store, only={"steps": ["1"]})
        tiny.run(store)
        tiny.run(store)
    out, err = capsys.readouterr()
    first, second, third = err.splitlines()
    assert out == "" and first.startswith("exactscore: tiny: 4 cells, 4 measured now in ")
    assert second.startswith("exactscore: tiny: 10 cells, 6 measured now in ")
    assert third == "exactscore: tiny: 10 cells, all stored."


def _no_seed(a):
    return {}


def _cell(a, *, seed):
    return {}


@pytest.mark.parametrize(
    ("cell", "axes", "sentence"),
    [
        (_no_seed, {"a": [1]}, "takes a seed"),
        (_cell, {"b": [1]}, "axes are its cell's keywords"),
        (_cell, {"a": [1], "b": [1]}, "axes are its cell's keywords"),
        (_cell, {"a": []}, "distinct finite numbers or strings"),
        (_cell, {"a": [1, 1]}, "distinct finite numbers or strings"),
        (_cell, {"a": [1, "1"]}, "distinct finite numbers or strings"),
        (_cell, {"a": [float("nan")]}, "distinct finite numbers or strings"),
        (_cell, {"a": [float("inf")]}, "distinct finite numbers or strings"),
        (_cell, {"a": [(1, 2)]}, "distinct finite numbers or strings"),
        (_cell, {"a": [None]}, "distinct finite numbers or strings"),
    ],
)
def test_a_study_that_cannot_be_is_refused_when_it_is_entered(cell, axes: dict, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        study("wrong", question="?", axes=axes)(cell)


def test_a_name_is_taken_once():
    study("twice", question="?", axes={"a": [1]})(_cell)
    with pytest.raises(ValueError, match="'twice' is taken"):
        study("twice", question="?", axes={"a": [1]})(_cell)


@pytest.mark.parametrize("values", [{"a": 2.0}, {"key": "x"}, [1.0], None])
def test_a_cell_answers_with_columns_of_its_own(values, tmp_path: Path):
    wrong = Study("wrong", "?", {"a": [1]}, 1, lambda a, seed: values)
    with Store(tmp_path / "store") as store, pytest.raises(RuntimeError, match="columns repeat neither an axis nor"):
        wrong.run(store, progress=False)
