"""A report as a self-contained web page and as Markdown: everything shown comes from the entries given here."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import jinja2
import markupsafe
import pandas as pd

from studies.bibliography import Reference
from studies.theme import DARK, GRID, INK, NARROW, PAPER, SOFT, WIDE
from theory.estimate import Estimate, Range

FIRST_ROWS = 8  # of a table, shown on the page
STATUSES = {
    "holds": "as claimed",
    "finding": "a finding: not as usually quoted",
    "open": "open: to be measured better",
    "differs": "differs from the record",
    "broken": "could not be measured",
}


@dataclass(frozen=True)
class ClaimEntry:
    """One claim as measured: words and numbers for one row of the table."""

    id: str
    key: str
    statement: str
    source: str
    sources: Sequence[tuple[Reference, str]]
    predicted: Range
    expected: str
    verdict: str
    measured: Estimate | None
    control_knobs: str
    control: Estimate | None
    control_verdict: str
    as_expected: bool
    finding: str = ""
    problem: str = ""

    @property
    def paper(self) -> str:
        """The first word of the id names the paper."""
        return self.id.split(".", 1)[0]

    @property
    def command(self) -> str:
        return f"exactscore replay {self.id}"

    @property
    def status(self) -> str:
        """One of STATUSES. OPEN comes before "differs": it says less."""
        if self.problem:
            return "broken"
        if "OPEN" in (self.verdict, self.control_verdict):
            return "open"
        if not self.as_expected:
            return "differs"
        return "finding" if self.verdict == "FAILS" else "holds"

    @property
    def remark(self) -> str:
        """What a reader must know beside the verdict, in two words; empty if it simply holds."""
        if self.status == "open":
            return "" if self.verdict == "OPEN" else "control open"
        return {"holds": "", "finding": "a finding", "differs": "not as recorded", "broken": "not measured"}[
            self.status
        ]


@dataclass(frozen=True)
class FigureEntry:
    """A figure of a study: its files relative to the report, and the SVG itself; or why there is none."""

    name: str
    caption: str
    files: Mapping[str, str] = field(default_factory=dict)
    svg: str = ""
    problem: str = ""

    @property
    def wide(self) -> bool:
        """Whether it takes two columns of a paper."""
        width = re.search(r'<svg[^>]* width="([\d.]+)pt"', self.svg)
        return width is None or float(width[1]) > 72 * (NARROW + WIDE) / 2


@dataclass(frozen=True)
class StudyEntry:
    """A study as run: its figures and its table; ``unavailable`` or ``problem`` say why it has none."""

    name: str
    question: str
    axes: Mapping[str, Sequence[str]]
    figures: Sequence[FigureEntry] = ()
    paragraphs: Sequence[str] = ()
    table: pd.DataFrame | None = None
    data: str = ""
    unavailable: str = ""
    problem: str = ""

    @property
    def command(self) -> str:
        return f"exactscore run {self.name}"

    @property
    def replay(self) -> str:
        """The command that measures the first row of the table again; empty if there is none."""
        known = self.table is not None and "key" in self.table and len(self.table)
        return f"exactscore replay {self.table['key'].iloc[0]}" if known and self.table is not None else ""


@dataclass(frozen=True)
class Report:
    """All claims and studies of a run. ``run`` holds what differs from run to run: date, times, versions, machine.

    network: the trained network that the studies were asked of, where the page is a validation of one.
    """

    claims: Sequence[ClaimEntry]
    studies: Sequence[StudyEntry]
    run: Mapping[str, str]
    network: str = ""

    @property
    def title(self) -> str:
        return f"exactscore validation of {self.network}" if self.network else "exactscore report"

    @property
    def command(self) -> str:
        return f"exactscore validate {self.network}" if self.network else "exactscore report"

    @cached_property
    def counts(self) -> dict[str, int]:
        """Claims by status, in the order of STATUSES."""
        found = Counter(claim.status for claim in self.claims)
        return {status: found[status] for status in STATUSES}

    @property
    def findings(self) -> list[ClaimEntry]:
        return [claim for claim in self.claims if claim.status == "finding"]

    @property
    def problems(self) -> list[str]:
        """What a reader should look at before anything else, one sentence each."""
        said = [f"{c.id}: {c.problem}" for c in self.claims if c.problem]
        said += [
            f"{c.id}: recorded as {c.expected}, measured as {c.verdict}, its control as {c.control_verdict}."
            for c in self.claims
            if not c.problem and not c.as_expected
        ]
        for study in self.studies:
            said += [f"{study.name}: {study.problem}"] if study.problem else []
            said += [f"{study.name}, figure {f.name}: {f.problem}" for f in study.figures if f.problem]
        return said

    @property
    def exit_status(self) -> int:
        """0 if every verdict is the recorded one and every figure could be drawn, else 1."""
        return 1 if self.problems else 0

    @property
    def summary(self) -> str:
        """One sentence: how many claims of which status, how many studies."""
        said = {"holds": "hold as claimed", "finding": "not as usually quoted", "open": "open"}
        said |= {"differs": "not as recorded", "broken": "not measured"}
        parts = [
            f"{n} {said[status]}" for status, n in self.counts.items() if n or status in ("holds", "finding", "open")
        ]
        ran = sum(1 for study in self.studies if study.table is not None)
        claims = f"{len(self.claims)} claims: {', '.join(parts)}. " if self.claims else ""
        return f"{claims}{ran} of {len(self.studies)} studies ran."


def html(report: Report) -> str:
    """The page: one file, styles, script and figures inside, nothing fetched."""
    return _environment(autoescape=True).get_template("page.html").render(report=report, **_words())


def markdown(report: Report) -> str:
    """The same for a code host: figures are files beside it."""
    return _environment(autoescape=False).get_template("report.md").render(report=report, **_words())


def number(value: float, digits: int = 4) -> str:
    """A number as read: 0.0123, 1.5×10⁻⁷, ∞."""
    if math.isnan(value):
        return "—"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    mantissa, exponent = _parts(value, digits)
    if -4 <= exponent < 6:
        return _minus(f"{value:z.{digits}g}" if exponent < digits else f"{value:.0f}")
    return _minus(mantissa) + _power(exponent)


def measured(estimate: Estimate | None) -> str:
    """Value ± error, the value rounded where its error begins: 1.002 ± 0.004, (3.1 ± 0.2)×10⁻⁹."""
    if estimate is None:
        return "—"
    value, error = estimate.value, estimate.error
    if math.isinf(value) or error == 0:
        return number(value, 6)
    if math.isinf(error):
        return f"{number(value)} ± ∞"
    leading, last = _parts(error, 2)
    size = _parts(max(abs(value), error), 2)[1]
    last -= float(leading) < 3  # a leading 1 or 2 takes the next digit with it
    if size - last > 6 or size < -300:
        return f"{number(value, 7)} ± {number(error, 2)}"
    if -4 <= size < 6:
        places = max(0, -last)
        return _minus(f"{value:z.{places}f} ± {error:.{places}f}")
    places, scale = max(0, size - last), 10.0**size
    return _minus(f"({value / scale:z.{places}f} ± {error / scale:.{places}f})") + _power(size)


def accepted(predicted: Range) -> str:
    """What a claim accepts: 1 ± 0.05, ≤ 0.01."""
    low, high = predicted.low, predicted.high
    if math.isinf(low) or math.isinf(high):
        return f"≤ {number(high)}" if math.isinf(low) else f"≥ {number(low)}"
    if low == high:
        return f"= {number(low)}"
    middle, half = (low + high) / 2, (high - low) / 2
    if 2 * half < abs(middle) or middle == 0:
        return f"{number(middle)} ± {number(half)}"
    return f"{number(low)} … {number(high)}"


def _parts(value: float, digits: int) -> tuple[str, int]:
    """Mantissa, as short as it can be written with so many digits, and exponent of ten; 0 for 0."""
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{float(mantissa):.{digits}g}", int(exponent)


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _power(exponent: int) -> str:
    return "×10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def inline_svg(svg: str, prefix: str, label: str) -> str:
    """A figure's SVG for inside a page: ids of its own, colours that follow the page, a label for those who listen."""
    svg = re.sub(r"^.*?(?=<svg)", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href=", "href=").replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    svg = re.sub(r'\b(?:d|x|y)="[^"]*"', lambda m: re.sub(r"(\.\d\d)\d+", r"\1", m[0]), svg)
    for light in DARK:
        svg = svg.replace(light, f"var({_variable(light)})")
    svg = re.sub(r">\s+<", "><", svg)
    head = f'<svg role="img" aria-label="{markupsafe.escape(label)}" '
    return svg.replace("<svg ", head, 1).strip()


def _variable(light: str) -> str:
    names = {PAPER: "--paper", INK: "--ink", SOFT: "--soft", GRID: "--grid"}
    return names.get(light, f"--c{light[1:]}")


def _words() -> dict[str, object]:
    return {
        "statuses": STATUSES,
        "first_rows": FIRST_ROWS,
        "colours": {_variable(light): (light, dark) for light, dark in DARK.items()},
    }


def _environment(*, autoescape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("studies", "templates"),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        number=number,
        measured=measured,
        accepted=accepted,
        inline_svg=inline_svg,
        cell=_cell,
        pipe=lambda text: " ".join(str(text).split()).replace("|", "\\|"),
        slug=lambda text: re.sub(r"[^A-Za-z0-9_-]+", "-", text),
    )
    return environment


def _cell(value: object) -> str:
    """A table cell as shown: floats short, all else as it is."""
    return number(value) if isinstance(value, float) else str(value)
