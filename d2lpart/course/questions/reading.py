"""How an answer is read: letters in any dress, and numbers with units, separators and fractions.

Whoever types "(b).", "1,024 kB" or "3/4" has answered; only what cannot be told is sent back.

>>> letters("a) and c)", "abc"), letters("C -> A -> B", "abc"), letters("a, e", "abc")
(['a', 'c'], ['c', 'a', 'b'], None)
>>> number("1,024 kB", "MB"), number("−2", "s"), number("3/4", "%"), number("many", "%")
(1.024, -2.0, 75.0, None)
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from math import isfinite

from d2lpart.common.quantities import nbytes, seconds

_DRESS = " \t\n()[].,:;'\"`*"
_YES_AND_NO = {"t": "true", "yes": "true", "y": "true", "f": "false", "no": "false", "n": "false"}
_LINKS = re.compile(r"\b(?:and|then|before)\b|[\W_]+")
_SIGNS = str.maketrans(
    {"−": "-", "–": "-", "⁄": "/", "½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3"}
)
_ABOUT = re.compile(r"^(?:about|around|roughly|ca\.?|[~≈=])\s*", re.IGNORECASE)
_POWER = re.compile(r"\s*[x×·*]\s*10\s*(?:\^|\*\*)\s*")
_FIGURE = r"[+-]?(?:\d[\d,_'’\s]*)?(?:\.\d*)?(?:[eE][+-]?\d+)?"
_WRITTEN = re.compile(rf"({_FIGURE})(?:\s*/\s*({_FIGURE}))?\s*([^\d\s/.,].*?)?\.?")
_MIXED = re.compile(r"^([+-]?)\s*(?:(\d+)\s+)?(\d+)\s*/\s*(\d+)")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?(?:[eE].*)?")
_TO_TEN = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_WORDS = {word: value for value, word in enumerate(_TO_TEN)} | {"none": 0, "once": 1, "twice": 2}
_THINGS = re.compile(r"(?!or\b)[^\W\d_]+(?: (?!or\b)[^\W\d_]+){0,2}")
_PERCENT = ("%", "percent", "per cent", "pct")


def one_of(answer: object, options: Mapping[str, str]) -> str | None:
    """Return the key of the option that is meant, by its letter, its text or both; None if none.

    >>> one_of("(B)", {"a": "1 s", "b": "4 s"}), one_of("b) 4 s", {"a": "1 s", "b": "4 s"})
    ('b', 'b')
    """
    if not isinstance(answer, str | int):
        return None
    said = re.sub(r"^(?:option|answer)\b", "", _bare(str(answer)))
    named = {_bare(key): key for key in options}
    for key, text in options.items():  # "about 1 s" is enough of "about 1 s: they take turns"
        named = {_bare(text): key, _bare(text.partition(":")[0]): key} | named
    named |= {_bare(f"{key}) {text}"): key for key, text in options.items()}
    return named.get(_bare(said)) or named.get(_YES_AND_NO.get(_bare(said), ""))


def letters(answer: object, keys: Collection[str]) -> list[str] | None:
    """Return the letters of an answer in their order; None if it holds anything else, or nothing.

    Signs between them, brackets and the words "and", "then" and "before" are passed over.
    """
    if not isinstance(answer, Iterable):
        return None
    text = answer if isinstance(answer, str) else " ".join(map(str, answer))
    found = _LINKS.sub("", text.lower())
    return list(found) if found and set(found) <= set(keys) else None


def number(answer: object, unit: str = "") -> float | None:
    """Return a number in `unit`; None if it is not a finite one, or in a unit of another sort.

    What is counted may have any name: 7 barriers answer a question for a number without a unit.
    A comma before each three digits parts thousands, any other single one is a decimal comma. A
    fraction of 1 or less stands for its percentage where the unit is %.
    """
    text = "" if answer is None else _ABOUT.sub("", str(answer).strip())
    text = _MIXED.sub(_as_fraction, text.translate(_SIGNS).strip())
    for word, figure in _WORDS.items():
        text = re.sub(rf"^{word}\b", str(figure), text, flags=re.IGNORECASE)
    if (written := _WRITTEN.fullmatch(_POWER.sub("e", text))) is None:
        return None
    above, below, word = written.groups()
    try:
        value = _plain(above) / (1.0 if below is None else _plain(below))
        part = below is not None and not word and unit == "%" and abs(value) <= 1
        value *= 100.0 if part else _factor(word or "", unit)
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    return value if isfinite(value) else None


def _as_fraction(mixed: re.Match[str]) -> str:
    """Write 66 2/3 as 200/3; leave 1 024/3 as it is, where the space parts thousands."""
    whole, above, below = (int(figure or 0) for figure in mixed.groups()[1:])
    return f"{mixed[1]}{whole * below + above}/{below}" if above < below else mixed[0]


def _bare(text: str) -> str:
    return text.lower().strip(_DRESS)


def _plain(figure: str) -> float:
    """Read figures without their spaces and commas; raise `ValueError` if it is no number."""
    text = re.sub(r"[_'’\s]", "", figure)
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    elif "." not in text and text.count(",") == 1:
        text = text.replace(",", ".")
    return float(text)


def _factor(word: str, unit: str) -> float:
    """Return what turns `word` into `unit`; raise `ValueError` where they are of two sorts."""
    if not word or (unit and _singular(word) == _singular(unit)):
        return 1.0
    if word.lower() in _PERCENT and unit in ("", "%"):
        return 1.0 if unit else 0.01
    sizes = [(_size(read, word), _size(read, unit or "?")) for read in (nbytes, seconds)]
    for have, want in sizes:
        if have and want:
            return have / want
    counted = unit != "%" and not any(have or want for have, want in sizes)
    if counted and (word in ("x", "×") or _THINGS.fullmatch(word)):
        return 1.0
    raise ValueError(f"{word!r} is not a unit like {unit!r}")


def _size(read: Callable[[str, str], float], unit: str) -> float:
    """Return how much 1 of a unit is; 0 where it is no unit of this sort."""
    shorter = re.sub(r"(?i)bytes?$", "B", re.sub(r"(?i)^sec(?:ond)?s?$", "s", unit))
    for known in (shorter, shorter.upper().replace("I", "i")):
        try:
            return read("answer", f"1{known}")
        except ValueError:
            continue
    return 0.0


def _singular(word: str) -> str:
    return word.lower().removesuffix("s")
