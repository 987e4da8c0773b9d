"""A claim is as expected only if its verdict is the expected one and its control has the other; OPEN is never."""

import math
from pathlib import Path

import pytest

from studies.claim import FAILS, HOLDS, OPEN, Claim, at_least, at_most, claim, near, packed, verify
from studies.store import Store
from theory.estimate import Estimate
from toy_distributions.registry import Registry


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry[Claim]:
    """An empty registry in the place of the real one."""
    empty: Registry[Claim] = Registry("claim")
    monkeypatch.setattr("studies.claim.CLAIMS", empty)
    return empty


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path / "store") as store:
        yield store


def entered(id: str = "paper.object.property", **changes) -> Claim:
    facts = {"statement": "one is one", "source": "author2020key, eq. 1", "accepted": near(1, 0.1)}
    facts |= {"control": {"value": 5.0}}

    @claim(id, **{**facts, **changes})
    def measure(value: float = 1.0, error: float = 0.0) -> Estimate:
        if math.isnan(error):
            raise ZeroDivisionError("by\nzero")
        return Estimate(value, error)

    return measure


VERDICTS = {  # accepted: 0.9 .. 1.1
    HOLDS: {"value": 1.0},
    FAILS: {"value": 5.0},
    OPEN: {"value": 1.1, "error": 0.05},
}


@pytest.mark.parametrize("expected", [HOLDS, FAILS])
@pytest.mark.parametrize("control", VERDICTS)
@pytest.mark.parametrize("measured", VERDICTS)
def test_every_pair_of_verdicts(measured, control, expected):
    def measure(**knobs) -> Estimate:
        return Estimate(**(knobs or VERDICTS[measured]))

    made = Claim("a.b", "s", "author2020", near(1, 0.1), VERDICTS[control], expected, "found", measure)
    result = made.check()
    assert (result.verdict, result.control_verdict) == (measured, control)
    accepted = {(HOLDS, FAILS): HOLDS, (FAILS, HOLDS): FAILS}.get((measured, control))
    assert result.as_expected is (accepted is expected)
    assert (result.id, result.key, result.predicted) == ("a.b", made.address.key, "0.9 .. 1.1")


def test_a_claim_is_entered_and_is_still_its_function(registry: Registry[Claim]):
    made = entered()
    assert registry["paper.object.property"] is made and made(value=3.0) == Estimate(3.0)
    assert made.check().as_expected


WRONG = {
    "a control, one knob turned wrong": {"control": {}},
    "has no knob 'vlaue', only": {"control": {"vlaue": 2.0}},
    "differs from the default; .* has value=1.0 in both": {"control": {"value": 1.0}},
    "has error=0 in both": {"control": {"value": 2.0, "error": 0}},
    "begins with a key of references.bib; .* has 'Song et al.": {"source": "Song et al. 2020, eq. 1"},
    "begins with a key of references.bib; .* has ''": {"source": ""},
    "HOLD, or to FAIL with a finding": {"expected": FAILS},
    "HOLD, or to FAIL with": {"expected": OPEN, "finding": "unknown"},
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_claim_without_a_proper_control_or_source_is_refused(sentence: str, registry: Registry[Claim]):
    with pytest.raises(ValueError, match=sentence):
        entered(**WRONG[sentence])
    assert len(registry) == 0


@pytest.mark.parametrize("id", ["order", "DDIM.order", "ddim order", "ddim.", ".order", "ddim..order", "a.b.c.d.e", ""])
def test_an_id_reads_paper_object_property(id: str):
    with pytest.raises(ValueError, match=r"reads paper\.object\.property"):
        entered(id)


def test_an_id_is_taken_once():
    entered()
    with pytest.raises(ValueError, match=r"'paper\.object\.property' is taken"):
        entered()


def test_every_knob_has_a_default():
    with pytest.raises(ValueError, match=r"every knob of a claim has a default, .*, law has none"):

        @claim("a.b", statement="", source="author2020", accepted=at_most(1), control={"value": 5.0})
        def measure(law, value: float = 1.0) -> Estimate:
            return Estimate(value)


def test_a_claim_that_breaks_is_an_error_and_stops_no_other(store: Store):
    entered("a.breaks", control={"error": math.nan})
    entered("b.holds")

    @claim("c.wrong_type", statement="", source="author2020", accepted=at_least(1), control={"value": 0.0})
    def number(value: float = 1.0) -> Estimate:
        return value  # type: ignore

    for _ in range(2):  # what broke is not remembered
        breaks, holds, wrong = sorted(verify(store=store), key=lambda result: result.id)
        assert breaks.verdict is None and not breaks.as_expected and breaks.error == "ZeroDivisionError: by\nzero"
        assert holds.as_expected and not holds.error
        assert wrong.error == "TypeError: a claim returns an Estimate; c.wrong_type returned float."
    assert packed(breaks) == {}


def test_nan_is_an_error_and_infinity_a_value(store: Store):
    entered("a.nan", control={"value": math.nan})
    entered("b.infinite", control={"value": math.inf})
    nan, infinite = sorted(verify(store=store), key=lambda result: result.id)
    assert "needs a number as its value; got NaN" in nan.error
    for result in (infinite, next(verify(["b.infinite"], store=store))):
        assert result.control == Estimate(math.inf) and result.as_expected


def test_results_are_remembered_exactly_and_fresh_measures_again(store: Store):
    calls = []

    @claim("a.b", statement="", source="author2020", accepted=near(0.3, 0.1), control={"value": 5.0})
    def measure(value: float = 0.1 + 0.2) -> Estimate:
        calls.append(value)
        return Estimate(value, 1e-17, "slope")

    (first,) = verify(store=store)
    (again,) = verify(["a.b"], store=store)
    assert again == first and calls == [0.1 + 0.2, 5.0]
    list(verify(store=store, fresh=True))
    assert len(calls) == 4
    row = store.find(first.key[:8])
    assert row.address.kind == "claim" and row.values == packed(first)


def test_no_claim_of_that_name():
    with pytest.raises(ValueError, match=r"no claim named 'a\.c'"):
        list(verify(["a.c"], store=None))  # type: ignore
