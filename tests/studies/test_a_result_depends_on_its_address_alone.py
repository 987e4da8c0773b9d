"""Seeds and tables do not depend on order, workers, threads, repetition or edits of code."""

import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from studies import store as store_module
from studies.claim import FAILS, HOLDS, Claim, near, verify
from studies.store import Address, Store
from studies.study import Study
from studies.worker import torch_threads
from theory.estimate import Estimate

AXES = {"scale": [0.1, 1, 1e300], "name": ["plain", "ünicode", "with space"], "flag": [True, False]}


def drawn(scale: float, name: str, flag: bool, *, seed: int) -> dict[str, float | int | str | None]:
    x = torch.randn(100_000, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    total = x.sum().item()  # depends on the number of threads
    none = None if flag else float("-inf")
    return {
        "zeta": total * scale,
        "alpha": total,
        "seed_used": seed,
        "said": name,
        "none": none,
        "worker": os.getpid() * 0,
    }


drawn = Study("drawn", "Does it stay the same?", AXES, 3, drawn)  # known by name, so imported by workers


def _knob(value: float = 1.0) -> Estimate:
    if value > 5:
        raise ArithmeticError("too large")
    return Estimate(torch.linspace(0, value, 300_000, dtype=torch.float64).sum().item() / 150_000, 1e-9, "sum")


def claims() -> list[Claim]:
    """Not known by name: pickled by their parts."""
    rows: list[tuple[str, dict, object]] = [("a", {"value": 2.0}, HOLDS), ("b", {"value": 3.0}, HOLDS)]
    rows += [("c", {"value": 1.0 + 1e-3}, HOLDS), ("broken", {"value": 6.0}, FAILS)]
    return [Claim(f"paper.{id}", id, "paper2020", near(1, 0.1), control, e, "", _knob) for id, control, e in rows]  # type: ignore


def test_the_address_is_canonical_and_its_key_is_for_ever():
    """A key in a printed report is to be found again: these digits change only with a good reason."""
    address = Address("cell", "order", 1, {"steps": 10, "solver": "ddim", "scale": 0.1})
    assert address.text == (
        '{"cell":{"scale":0.1,"solver":"ddim","steps":10},"device":"cpu","dtype":"float64","kind":"cell",'
        '"name":"order","version":1}'
    )
    assert (address.key, address.seed) == ("9ec5d63c9b021f3c", 0x9EC5D63C9B02)
    assert Address("cell", "order", 1, {"solver": "ddim", "scale": 0.1, "steps": 10}).key == address.key
    assert Address.parse(address.text) == address


OTHERS: list[Callable[[Address], Address]] = [
    lambda a: Address("claim", a.name, a.version, a.cell),
    lambda a: Address(a.kind, "other", a.version, a.cell),
    lambda a: Address(a.kind, a.name, 2, a.cell),
    lambda a: Address(a.kind, a.name, a.version, {**a.cell, "steps": 11}),
    lambda a: Address(a.kind, a.name, a.version, {**a.cell, "steps": "10"}),
    lambda a: Address(a.kind, a.name, a.version, {**a.cell, "steps": 10.0}),
    lambda a: Address(a.kind, a.name, a.version, a.cell, "cuda"),
]


def test_anything_else_has_another_key():
    address = Address("cell", "order", 1, {"steps": 10})
    keys = {address.key} | {other(address).key for other in OTHERS}
    assert len(keys) == len(OTHERS) + 1


def test_seeds_fit_every_generator_and_differ():
    seeds = [drawn.address(cell).seed for cell in drawn.cells()]
    assert len(set(seeds)) == len(seeds) == 18 and all(0 <= seed < 2**48 for seed in seeds)


def test_order_workers_and_repetition_change_nothing(tmp_path: Path):
    with Store(tmp_path / "one") as store:
        whole = drawn.run(store, progress=False).to_csv(index=False)
        assert drawn.run(store, progress=False).to_csv(index=False) == whole
    with Store(tmp_path / "shuffled") as store:
        cells = drawn.cells()
        random.Random(0).shuffle(cells)
        for cell in cells:
            drawn.run(store, only={axis: [str(value)] for axis, value in cell.items()}, progress=False)
        assert drawn.run(store, progress=False).to_csv(index=False) == whole
    with Store(tmp_path / "workers") as store:
        assert drawn.run(store, jobs=2, progress=False).to_csv(index=False) == whole
        checked = {jobs: list(verify_all(store, jobs)) for jobs in (2, 1)}
    assert checked[2] == checked[1]
    header, first, *_ = whole.splitlines()
    assert header == "scale,name,flag,zeta,alpha,seed_used,said,none,worker,key"  # columns as the cell gives them
    assert first.startswith("0.1,plain,True,") and first.endswith(drawn.address(drawn.cells()[0]).key)


def verify_all(store: Store, jobs: int) -> list[tuple]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("studies.claim.CLAIMS", {claim.id: claim for claim in claims()})
        results = verify([claim.id for claim in claims()], store=store, fresh=True, jobs=jobs)
        return sorted((r.id, r.measured, r.control, r.verdict, r.as_expected, r.error) for r in results)


def test_the_number_of_threads_is_the_study_s_own():
    seen: list[int] = []

    def cell(a: int, *, seed: int) -> dict[str, float]:
        seen.append(torch.get_num_threads())
        return {}

    def measure(knob: float = 1.0) -> Estimate:
        seen.append(torch.get_num_threads())
        return Estimate(knob)

    claim = Claim("a.b", "", "a2020", near(1, 0.1), {"knob": 2.0}, HOLDS, "", measure)
    before = torch.get_num_threads()
    for outside in (1, 2, 3):
        with torch_threads(outside):
            Study("one", "?", {"a": [1]}, 1, cell).measure({"a": 1})
            Study("two", "?", {"a": [1]}, 1, cell, threads=2).measure({"a": 1})
            assert claim.check().as_expected
            assert torch.get_num_threads() == outside
    assert seen == [1, 2, 1, 1] * 3 and torch.get_num_threads() == before


def test_a_cell_without_a_device_is_the_same_cell_on_every_device():
    def plain(a: int, *, seed: int) -> dict[str, float]:
        return {}

    def on_device(a: int, *, seed: int, device: str) -> dict[str, str]:
        return {"device": device}

    study = Study("plain", "?", {"a": [1]}, 1, plain)
    assert study.address({"a": 1}, "cuda") == study.address({"a": 1})
    study = Study("on_device", "?", {"a": [1]}, 1, on_device)
    assert study.address({"a": 1}, "cuda:1") == study.address({"a": 1}, "cuda") != study.address({"a": 1})
    assert study.measure({"a": 1}, "cuda:1")[0] == {"device": "cuda:1"}


SOURCE = """
from studies.study import Study
from studies.claim import Claim, near, HOLDS
from theory.estimate import Estimate
calls = []
def cell(a, *, seed):
    calls.append(a)
    return {{"value": {value} * a, "seed_used": seed}}
study = Study("edited", "?", {{"a": [1, 2]}}, 1, cell)
def measure(value={value}):
    calls.append(value)
    return Estimate(value)
claim = Claim("paper.edited", "", "paper2020", near(1, 0.1), {{"value": 7.0}}, HOLDS, "", measure)
"""


def edited(tmp_path: Path, value: float):
    """The module as it stands after an edit."""
    sys.modules.pop("edited_module", None)
    file = tmp_path / "edited_module.py"
    file.write_text(SOURCE.format(value=value))
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)  # a file of one size and second counts as unchanged
    import importlib.util

    spec = importlib.util.spec_from_file_location("edited_module", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["edited_module"] = module
    spec.loader.exec_module(module)
    return module


def test_results_of_other_code_are_stale_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with Store(tmp_path / "store") as store:
        seeds = []
        for value, as_expected in ((1.0, True), (2.0, False), (1.0, True)):
            module = edited(tmp_path, value)
            monkeypatch.setattr("studies.claim.CLAIMS", {"paper.edited": module.claim})
            for fresh_calls in ([1, 2, value, 7.0], []):  # measured once, then stored
                module.calls.clear()
                table = module.study.run(store, progress=False)
                (result,) = verify(["paper.edited"], store=store)
                assert table["value"].tolist() == [value, 2 * value]
                assert result.as_expected is as_expected and result.measured == Estimate(value)
                assert module.calls == fresh_calls
            seeds.append(table["seed_used"].tolist())
        assert seeds[0] == seeds[1] == seeds[2]  # the seed outlives edits
    sys.modules.pop("edited_module")


def test_a_change_of_the_accepted_range_needs_no_new_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The verdict is passed anew on what is stored, so it is never older than the range it is passed by."""
    monkeypatch.setattr(Claim, "code", "same")
    for accepted, as_expected in ((near(1, 0.1), True), (near(2, 0.1), False)):
        claim = Claim("paper.range", "", "paper2020", accepted, {"value": 3.0}, HOLDS, "", _knob)
        monkeypatch.setattr("studies.claim.CLAIMS", {claim.id: claim})
        with Store(tmp_path / "store") as store:
            (result,) = verify([claim.id], store=store)
        assert result.as_expected is as_expected


def test_the_digest_sees_every_file_of_the_lower_rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store_module, "__file__", str(tmp_path / "studies" / "store.py"))
    files = [tmp_path / place for place in ("toy_distributions/a.py", "theory/deep/er/b.py", "studies/cifar10/data.py")]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("x = 1")
    digests = [store_module.common_code.__wrapped__()]
    for file in files:
        file.write_text("x = 2")
        digests.append(store_module.common_code.__wrapped__())
    files[0].rename(files[0].with_name("renamed.py"))
    digests.append(store_module.common_code.__wrapped__())
    monkeypatch.setattr(store_module, "version", lambda package: "another")
    digests.append(store_module.common_code.__wrapped__())
    assert len(set(digests)) == len(digests)
    (tmp_path / "studies" / "page.py").write_text("not part of any number")
    assert store_module.common_code.__wrapped__() == digests[-1]


def test_floats_come_back_exact(tmp_path: Path):
    values = {"a": 0.1 + 0.2, "b": 5e-324, "c": 1.7976931348623157e308, "d": float("inf"), "e": -0.0, "f": 2**70}
    values |= {"g": 1 / 3, "h": "text \x00 'with' \"marks\"", "i": None, "j": True}
    with Store(tmp_path / "store") as store:
        store.put(Address("cell", "exact", 1, {}), values, "code", 1.0)
        row = store.get(Address("cell", "exact", 1, {}))
    assert row is not None and repr(row.values) == repr(values) == repr(json.loads(json.dumps(row.values)))
