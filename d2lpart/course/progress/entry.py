"""The form of a learner's progress: one entry an item, and the JSON text that holds all of them.

The file is plain JSON, to be read and edited by hand:

    {
      "version": 1,
      "items": {
        "05.1":  {"tries": 3, "tries_to_pass": 2, "passed": "2025-03-01T12:00:00+00:00",
                  "hints": 1, "kind": "right", "seed": 0},
        "05.p1": {"guess": 0.5, "measured": 0.75, "near": false}
      }
    }

Every field may be left out:

    tries          how often the item was answered
    tries_to_pass  how many of these it took until the first right answer
    passed         when that was, in UTC (ISO 8601)
    hints          the strongest hint seen, 0 to 3
    solution       whether the worked solution was seen
    kind           the verdict on the last answer: "right", "wrong", "misconception", ...
    seed           the seed of the last answer's cases
    guess          the learner's last prediction
    measured       what the measurement then gave
    near           whether the two are near

Fields, items and keys beside "items" that are not known here stay as they are.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, SupportsFloat

VERSION = 1

Event = Literal["tried", "hinted", "guessed", "measured"]


class ProgressError(ValueError):
    """A text is not the progress of a learner; says where it differs."""


@dataclass(frozen=True)
class Entry:
    """What a learner did with one item; the fields are those of the file.

    >>> entry = Entry().after("tried", ok=False, kind="wrong").after("hinted", level=1)
    >>> entry.tries, entry.passed, entry.hints_seen
    (1, None, 1)
    """

    tries: int = 0
    tries_to_pass: int | None = None
    passed: str | None = None
    hints: int = 0
    solution: bool = False
    kind: str | None = None
    seed: int | str | None = None
    guess: float | None = None
    measured: float | None = None
    near: bool | None = None

    @property
    def hints_seen(self) -> int:
        """The strongest help seen: 0 none, 1 to 3 a hint, 4 the worked solution."""
        return 4 if self.solution else self.hints

    def after(self, event: Event, **details: Any) -> "Entry":
        """Return the entry after one event.

        The details: "tried" takes ok, kind and seed; "hinted" level, 1 to 3 or 4 for the worked
        solution; "guessed" guess; "measured" value and near. Raises `ValueError` for another event
        or level and for a number that is not finite, `TypeError` for other details.
        """
        if event not in _AFTER:
            raise ValueError(f"no event {event!r}; those there are: {', '.join(_AFTER)}")
        return _AFTER[event](self, **details)


def _tried(entry: Entry, *, ok: bool, kind: str, seed: int | str | None = None) -> Entry:
    tries = entry.tries + 1
    seed = seed if isinstance(seed, int | str | None) else str(seed)
    entry = replace(entry, tries=tries, kind=str(kind), seed=seed)
    if not ok or entry.passed:
        return entry
    return replace(entry, tries_to_pass=tries, passed=datetime.now(UTC).isoformat("T", "seconds"))


def _hinted(entry: Entry, *, level: int) -> Entry:
    if level not in range(1, 5):
        raise ValueError(f"hint {level}; there are 1 to 3, and 4 is the worked solution")
    if level == 4:
        return replace(entry, solution=True)
    return replace(entry, hints=max(entry.hints, int(level)))


def _guessed(entry: Entry, *, guess: SupportsFloat) -> Entry:
    return replace(entry, guess=_finite(guess), measured=None, near=None)


def _measured(entry: Entry, *, value: SupportsFloat, near: bool) -> Entry:
    return replace(entry, measured=_finite(value), near=bool(near))


def _finite(value: SupportsFloat | str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is no finite number; JSON has no word for it")
    return number


_AFTER: dict[str, Callable[..., Entry]] = {
    "tried": _tried,
    "hinted": _hinted,
    "guessed": _guessed,
    "measured": _measured,
}

_NAMES = tuple(field.name for field in fields(Entry))

_FITS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "tries": ("a whole number", lambda x: type(x) is int and x >= 0),
    "tries_to_pass": ("a whole number", lambda x: type(x) is int and x >= 1),
    "passed": ("a time as text", lambda x: isinstance(x, str)),
    "hints": ("0, 1, 2 or 3", lambda x: type(x) is int and 0 <= x <= 3),
    "solution": ("true or false", lambda x: isinstance(x, bool)),
    "kind": ("a text", lambda x: isinstance(x, str)),
    "seed": ("a whole number or a text", lambda x: type(x) in (int, str)),
    "guess": ("a number", lambda x: type(x) in (int, float)),
    "measured": ("a number", lambda x: type(x) in (int, float)),
    "near": ("true or false", lambda x: isinstance(x, bool)),
}


def parse(text: str) -> dict[str, Any]:
    """Return the JSON of a progress file, its shape looked over. Raises `ProgressError`.

    >>> parse('{"version": 1, "items": {"05.1": {"tries": -1}}}')
    Traceback (most recent call last):
    d2lpart.course.progress.entry.ProgressError: item 05.1: tries is -1, not a whole number
    """
    try:
        document = json.loads(text, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise ProgressError(f"this is no JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("items"), dict):
        raise ProgressError('it has no "items": {...}')
    version = document.get("version")
    if version != VERSION:
        raise ProgressError(
            f"it has version {version!r}, this d2lpart reads {VERSION}; a newer d2lpart may read it"
        )
    for item_id in document["items"]:
        entry_in(document, item_id)
    return document


def entry_in(document: Mapping[str, Any], item_id: str) -> Entry:
    """Return one item's entry, a new one if it has none. Raises `ProgressError` for a wrong form.

    A field that is null counts as left out.
    """
    raw = document["items"].get(item_id, {})
    if not isinstance(raw, dict):
        raise ProgressError(f"item {item_id}: {raw!r:.40} stands where its fields should be")
    known = {name: raw[name] for name in _NAMES if raw.get(name) is not None}
    for name, value in known.items():
        form, fits = _FITS[name]
        if not fits(value):
            raise ProgressError(f"item {item_id}: {name} is {value!r:.40}, not {form}")
    return Entry(**known)


def put(document: dict[str, Any], item_id: str, entry: Entry) -> None:
    """Write an entry into the document; what the item has beside the known fields stays."""
    raw = document["items"].get(item_id, {})
    unknown = {name: value for name, value in raw.items() if name not in _NAMES}
    new = asdict(Entry())
    known = {name: value for name, value in asdict(entry).items() if value != new[name]}
    document["items"][item_id] = known | unknown


def render(document: Mapping[str, Any]) -> bytes:
    """Return the file's bytes: UTF-8, one field a line.

    A half of a surrogate pair, which UTF-8 cannot hold, becomes its JSON escape.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode("utf-8", "backslashreplace")
