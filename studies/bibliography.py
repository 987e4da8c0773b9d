"""References by key, read from ``references.bib``: as much BibTeX as a list of papers needs."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BIB = Path(__file__).resolve().parents[1] / "references.bib"


@dataclass(frozen=True)
class Reference:
    """One paper. Every field but the key may be empty."""

    key: str
    title: str = ""
    authors: tuple[str, ...] = ()
    year: str = ""
    eprint: str = ""
    url: str = ""

    @property
    def label(self) -> str:
        """Family names and year, as a text would cite it: "Ho et al. 2020"; the key if the authors are not known."""
        families = [_family(author) for author in self.authors]
        if not families:
            return self.key
        names = families[0] if len(families) == 1 else f"{families[0]} et al."
        if len(families) == 2:
            names = " & ".join(families)
        return f"{names} {self.year}".strip()

    @property
    def link(self) -> str:
        """Where to read it: the preprint if there is one."""
        return f"https://arxiv.org/abs/{self.eprint}" if self.eprint else self.url


def read_bib(path: Path | str = BIB) -> dict[str, Reference]:
    """All entries of a .bib file by key; no entries if there is no such file.

    Reads ``field = {text}``, ``field = "text"`` and ``field = number``, with braces nested to any depth, one after
    another. Abbreviations (@string) and concatenation are not known here.
    """
    path = Path(path)
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    found: dict[str, Reference] = {}
    for start in re.finditer(r"@(\w+)\s*\{\s*([^\s,{}]+)\s*,", text):
        if start[1].lower() in ("comment", "string", "preamble"):
            continue
        fields = _fields(text[start.end() : _closing(text, start.start() + text[start.start() :].index("{"))])
        authors = tuple(a.strip() for a in re.split(r"\s+and\s+", fields.get("author", "")) if a.strip())
        eprint = fields.get("eprint", "")
        url = fields.get("url", "") or (f"https://doi.org/{fields['doi']}" if "doi" in fields else "")
        found[start[2]] = Reference(start[2], fields.get("title", ""), authors, fields.get("year", ""), eprint, url)
    return found


def cited(source: str, references: Mapping[str, Reference]) -> list[tuple[Reference, str]]:
    """The papers that a source such as "song2020ddim, eq. 13; lu2022dpm, theorem 3.2" names, each with the place in it.

    An unknown key gives a Reference that has nothing but the key.
    """
    parts = [part.partition(",") for part in source.split(";") if part.strip()]
    return [(references.get(key.strip(), Reference(key.strip())), place.strip()) for key, _, place in parts]


def _closing(text: str, opening: int) -> int:
    """Index of the brace that closes the one at ``opening``; the end of the text if none does."""
    depth = 0
    for i in range(opening, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return i
    return len(text)


def _fields(body: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    at = 0
    while name := re.compile(r"[\s,]*(\w+)\s*=\s*").match(body, at):
        at = name.end()
        if body[at : at + 1] == "{":
            end = _closing(body, at)
            value, at = body[at + 1 : end], end + 1
        elif quoted := re.compile(r'"([^"]*)"').match(body, at):
            value, at = quoted[1], quoted.end()
        else:
            end = body.find(",", at)
            end = len(body) if end < 0 else end
            value, at = body[at:end], end
        fields[name[1].lower()] = _plain(value)
    return fields


ACCENTS = {'"': "\u0308", "'": "\u0301", "`": "\u0300", "^": "\u0302", "~": "\u0303", "c": "\u0327", "v": "\u030c"}


def _plain(value: str) -> str:
    """TeX accents become letters, braces go, white space becomes single spaces."""
    value = re.sub(
        r"""\\(["'`^~]|[cv](?=[\s{]))\s*\{?\\?(\w)\}?""", lambda m: m[2].replace("ı", "i") + ACCENTS[m[1]], value
    )
    value = value.replace(r"\&", "&").replace("{", "").replace("}", "").replace("--", "–")
    return unicodedata.normalize("NFC", " ".join(value.split()))


def _family(author: str) -> str:
    """ "Ho, Jonathan" and "Jonathan Ho" are both Ho."""
    return author.split(",")[0].strip() if "," in author else author.split()[-1]
