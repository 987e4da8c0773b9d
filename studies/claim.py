"""Claims: statements of papers as functions with knobs. The control is a knob turned wrong; the verdict must flip."""

import inspect
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from studies.store import Address, Store, Values, code_digest, remember
from studies.worker import reduced, spread, torch_threads
from theory.estimate import Estimate, Range, Verdict, at_least, at_most, near
from toy_distributions.registry import Registry

HOLDS, FAILS, OPEN = Verdict.HOLDS, Verdict.FAILS, Verdict.OPEN

__all__ = ["CLAIMS", "FAILS", "HOLDS", "OPEN", "Claim", "ClaimResult", "at_least", "at_most", "claim", "near", "verify"]


@dataclass(frozen=True)
class ClaimResult:
    """What checking a claim gave. ``error`` says why there is no verdict, if the check itself broke."""

    id: str
    key: str
    predicted: str
    measured: Estimate | None
    verdict: Verdict | None
    control: Estimate | None
    control_verdict: Verdict | None
    as_expected: bool
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class Claim:
    """A statement, the values it accepts, how it is measured, and the control that must get the other verdict.

    expected: what we find. HOLDS: the control is a sabotage and must FAIL. FAILS (the statement is false as usually
    quoted, ``finding`` says how): the control is the repair and must HOLD. OPEN is never as expected.
    A claim is called as its function is.
    """

    id: str
    statement: str
    source: str
    accepted: Range
    control: dict[str, object]
    expected: Verdict
    finding: str
    measure: Callable[..., Estimate]

    def __call__(self, **knobs) -> Estimate:
        return self.measure(**knobs)

    def __reduce__(self):
        return reduced(self, self.measure)

    @property
    def address(self) -> Address:
        return Address("claim", self.id, 1, {})

    @property
    def code(self) -> str:
        return code_digest(self.measure.__module__)

    def check(self) -> ClaimResult:
        """Measure the claim and its control, and judge both. Never raises for what the measurement does."""
        begun = time.perf_counter()
        try:
            with torch_threads():
                measured, control = self.measure(), self.measure(**self.control)
            for estimate in (measured, control):
                if not isinstance(estimate, Estimate):
                    raise TypeError(f"a claim returns an Estimate; {self.id} returned {type(estimate).__name__}.")
        except Exception as error:
            return self._result(None, None, time.perf_counter() - begun, f"{type(error).__name__}: {error}")
        return self._result(measured, control, time.perf_counter() - begun)

    def _result(
        self, measured: Estimate | None, control: Estimate | None, seconds: float, error: str = ""
    ) -> ClaimResult:
        verdict, control_verdict = (self.accepted.judge(e) if e else None for e in (measured, control))
        flipped = FAILS if self.expected is HOLDS else HOLDS
        as_expected = verdict is self.expected and control_verdict is flipped
        key, predicted = self.address.key, str(self.accepted)
        return ClaimResult(
            self.id, key, predicted, measured, verdict, control, control_verdict, as_expected, seconds, error
        )

    def remembered(self, store: Store) -> ClaimResult | None:
        """The stored measurements, judged anew, if this very code made them."""
        row = store.get(self.address, self.code)
        if row is None:
            return None
        return self._result(_unpacked(row.values, "measured"), _unpacked(row.values, "control"), row.seconds)


def packed(result: ClaimResult) -> Values:
    """A claim's two measurements as plain values for the store; empty if it broke."""
    values: Values = {}
    for name, estimate in (("measured", result.measured), ("control", result.control)):
        if estimate is not None:
            values |= {name: estimate.value, f"{name}_error": estimate.error, f"{name}_method": estimate.method}
    return values


def _unpacked(values: Values, name: str) -> Estimate:
    return Estimate(*(values[name + part] for part in ("", "_error", "_method")))  # pyright: ignore[reportArgumentType]


CLAIMS: Registry[Claim] = Registry("claim")

_ID = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+){1,3}")
_SOURCE = re.compile(r"[a-z]+\d{4}[a-z0-9_]*")


def claim(
    id: str,
    *,
    statement: str,
    source: str,
    accepted: Range,
    control: dict[str, object],
    expected: Verdict = HOLDS,
    finding: str = "",
) -> Callable[[Callable[..., Estimate]], Claim]:
    """Enter the decorated function, keyword knobs -> Estimate, into CLAIMS under ``id`` (paper.object.property).

    source: a key of references.bib, then where in it. control: knobs turned so that the verdict must flip.
    Raises ValueError for an id or source of another form, a knob without a default, a control that is empty, names no
    knob of the function or repeats a default, an expected verdict OPEN, and a false claim without a ``finding``.
    """

    def enter(measure: Callable[..., Estimate]) -> Claim:
        knobs = inspect.signature(measure).parameters
        if not _ID.fullmatch(id):
            raise ValueError(f"a claim id reads paper.object.property in lower case; got {id!r}.")
        if not _SOURCE.match(source):
            raise ValueError(f"a claim's source begins with a key of references.bib; {id} has {source!r}.")
        if expected is OPEN or (expected is FAILS and not finding):
            raise ValueError(f"a claim is expected to HOLD, or to FAIL with a finding that says how; {id} is neither.")
        if not control:
            raise ValueError(f"a claim needs a control, one knob turned wrong; {id} has none.")
        for knob in knobs.values():
            if knob.default is inspect.Parameter.empty:
                raise ValueError(f"every knob of a claim has a default, the true setting; {id}, {knob.name} has none.")
        for knob, value in control.items():
            if knob not in knobs:
                raise ValueError(f"a control turns knobs of its claim; {id} has no knob {knob!r}, only {list(knobs)}.")
            if knobs[knob].default == value:
                raise ValueError(f"a control differs from the default; {id} has {knob}={value!r} in both.")
        made = Claim(id, statement, source, accepted, control, expected, finding, measure)
        return CLAIMS.add(id)(made)

    return enter


def verify(ids: Sequence[str] = (), *, store: Store, fresh: bool = False, jobs: int = 1) -> Iterator[ClaimResult]:
    """Check claims, all by default, yielding each result as it is ready: first what the store has from this code.

    fresh: measure stored claims too. jobs: worker processes. A claim that breaks is a result with an ``error``.
    """
    missing: list[Claim] = []
    for claim in [CLAIMS[id] for id in ids or CLAIMS.names()]:
        result = None if fresh else claim.remembered(store)
        if result:
            yield result
        else:
            missing.append(claim)
    task = partial(_check_and_store, store.path if jobs > 1 else store, {c.id: c.code for c in missing})
    yield from spread(task, missing, jobs)


def _check_and_store(place: Store | Path, codes: dict[str, str], claim: Claim) -> ClaimResult:
    result = claim.check()
    if not result.error:  # what broke is tried again next time
        remember(place, claim.address, packed(result), codes[claim.id], result.seconds)
    return result
