"""A registry: names on one side, the things themselves on the other.

Laws, processes, solvers, claims and studies are each found through one of these. The entry stands in the
file of the thing itself, so a new thing is one new file.
"""

import difflib
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Registry(Generic[T]):
    """Named entries of one kind; an unknown name is answered with the nearest known one.

    kind: singular noun for error messages ("solver"); plural names the CLI listing ("solvers").
    """

    def __init__(self, kind: str, plural: str | None = None):
        self.kind = kind
        self.plural = plural or kind + "s"
        self._entries: dict[str, T] = {}

    def add(self, name: str) -> Callable[[U], U]:
        """Decorator that enters the decorated thing under ``name``. Raises ValueError if the name is taken."""

        def enter(thing: U) -> U:
            if name in self._entries:
                raise ValueError(f"each {self.kind} needs a name of its own; {name!r} is taken already.")
            self._entries[name] = thing  # pyright: ignore[reportArgumentType]
            return thing

        return enter

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise ValueError(self._unknown(name))
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self._entries)

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries)

    def describe(self, name: str) -> str:
        """First line of the entry's docstring: its one-line description."""
        doc = getattr(self[name], "__doc__", None) or ""
        return doc.strip().split("\n", 1)[0]

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(str(name), self._entries, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        return f"no {self.kind} named {name!r}{hint} 'exactscore list {self.plural}' shows all {len(self)}."
