"""A console that lacks some characters, as old ones of Windows do, shows plain ones instead."""

import codecs
import io
import unicodedata
from typing import TextIO

PLAINLY = "d2lpart.plainly"
"""The name under which Python's codecs know `_plainly`."""

PLAIN = {"█": "#", "×": "x", "−": "-", "–": "-", "·": ".", "→": "->", "≥": ">=", "≤": "<="}
PLAIN |= {"≈": "~", "∞": "inf", "√": "sqrt", "µ": "u", "“": '"', "”": '"', "’": "'"}


STOP_OR_ESCAPE = ("strict", "surrogateescape", "backslashreplace")
"""Python's own choices for a console; another is the user's."""


def degrade(stream: TextIO) -> None:
    """Let a stream write what its encoding has no character for in ASCII, instead of raising."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors in STOP_OR_ESCAPE:
        stream.reconfigure(errors=PLAINLY)


def _plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(character: str) -> str:
    """Return ASCII for one character: our own choice, or its parts, as "1/2" for "½"."""
    parts = unicodedata.normalize("NFKD", character).replace("\u2044", "/")
    return PLAIN.get(character) or parts.encode("ascii", "ignore").decode() or "?"


codecs.register_error(PLAINLY, _plainly)
