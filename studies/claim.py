"""Claims: statements of papers as functions with knobs. The control is a knob turned wrong; the verdict must flip."""

import inspect
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from studies.store import Address, Store, Values, code_digest
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
    """

    id: str
    statement: str
    source: str
    accepted: Range
    control: dict[str, object]
    expected: Verdict
    finding: str
    measure: Callable[..., Estimate]

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
            measured, control = self.measure(), self.measure(**self.control)
            if not isinstance(measured, Estimate) or not isinstance(control, Estimate):
                raise TypeError(f"a claim returns an Estimate; {self.id} returned {type(measured).__name__}")
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            return ClaimResult(self.id, self.address.key, str(self.accepted), None, None, None, None, False, 0.0, text)
        return self._judged(measured, control, time.perf_counter() - begun)

    def _judged(self, measured: Estimate, control: Estimate, seconds: float) -> ClaimResult:
        verdict, control_verdict = self.accepted.judge(measured), self.accepted.judge(control)
        flipped = FAILS if self.expected is HOLDS else HOLDS
        as_expected = verdict is self.expected and control_verdict is flipped
        return ClaimResult(
            self.id, self.address.key, str(self.accepted), measured, verdict, control, control_verdict, as_expected, seconds
        )

    def checked(self, store: Store, *, fresh: bool = False) -> ClaimResult:
        """As ``check``, remembered: a stored measurement serves if this very code made it."""
        row = None if fresh else store.get(self.address, self.code)
        if row:
            measured, control = (Estimate(*json.loads(str(row.values[part]))) for part in ("measured", "control"))
            return self._judged(measured, control, row.seconds)
        result = self.check()
        if result.measured and result.control:
            store.put(self.address, packed(result), self.code, result.seconds)
        return result

    def __call__(self, **knobs) -> Estimate:
        return self.measure(**knobs)


def packed(result: ClaimResult) -> Values:
    """A claim's two measurements as plain values for the store."""
    parts = {"measured": result.measured, "control": result.control}
    return {name: json.dumps([e.value, e.error, e.method]) for name, e in parts.items() if e is not None}


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
    Raises ValueError for an id or source of another form, a control that is empty, names no knob of the function or
    repeats a default, an expected verdict OPEN, and a false claim without a ``finding``.
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
        for knob, value in control.items():
            if knob not in knobs:
                raise ValueError(f"a control turns knobs of its claim; {id} has no knob {knob!r}, only {list(knobs)}.")
            if knobs[knob].default is inspect.Parameter.empty or knobs[knob].default == value:
                raise ValueError(f"a control differs from the default; {id} has {knob}={value!r} in both.")
        made = Claim(id, statement, source, accepted, control, expected, finding, measure)
        return CLAIMS.add(id)(made)

    return enter


def verify(
    ids: Sequence[str] = (), *, store: Store, fresh: bool = False, jobs: int = 1
) -> Iterator[ClaimResult]:
    """Check claims, all by default, yielding each result as it is ready. jobs: worker processes."""
    chosen = list(ids) or CLAIMS.names()
    if jobs <= 1:
        yield from (CLAIMS[id].checked(store, fresh=fresh) for id in chosen)
        return
    from joblib import Parallel, delayed

    yield from Parallel(n_jobs=jobs, return_as="generator_unordered")(
        delayed(_check_in_worker)(id, store.path, fresh) for id in chosen
    )


def _check_in_worker(id: str, path, fresh: bool) -> ClaimResult:
    import torch

    from studies.discover import discover

    torch.set_num_threads(1)
    discover()
    store = Store(path)
    try:
        return CLAIMS[id].checked(store, fresh=fresh)
    finally:
        store.close()
