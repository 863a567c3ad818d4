"""What an answer gets back: words first, then colour. In strict mode a failed check raises."""

import html
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from d2lpart.common.display import BLUE, GREEN, VERMILLION

Explanation = str | Callable[..., str]
"""A sentence, or a function that computes its numbers and returns the sentence."""


class CheckFailed(AssertionError):
    """A check failed while the variable D2LPART_STRICT is 1; the text is the verdict."""

    def __init__(self, check_id: str, text: str) -> None:
        super().__init__(text)
        self.check_id = check_id


def strict() -> bool:
    """Tell whether every failed check is to raise `CheckFailed`, as in the project's tests."""
    return os.environ.get("D2LPART_STRICT") == "1"


def explain(explanation: Explanation, *args: object) -> str:
    """Return the sentence, computing it now where it is a function of `args`.

    >>> explain("as it stands"), explain(lambda n: f"{n} ranks", 4)
    ('as it stands', '4 ranks')
    """
    return explanation(*args) if callable(explanation) else explanation


def inline_html(text: str) -> str:
    """Escape a sentence for HTML; `code` stands between backticks, *emphasis* between asterisks.

    >>> inline_html("is `p < m*n*k`, or *not*?")
    'is <code>p &lt; m*n*k</code>, or <em>not</em>?'
    """
    parts = re.split(r"`([^`]+)`", html.escape(text, quote=False))
    for i, part in enumerate(parts):
        emphasised = re.sub(r"(?<!\w)\*(\S|\S[^*]*\S)\*(?!\w)", r"<em>\1</em>", part)
        parts[i] = f"<code>{part}</code>" if i % 2 else emphasised
    return "".join(parts)


def status_html(ok: bool | None, headline: str, lines: Sequence[str]) -> str:
    """Return a box that screen readers announce; `headline` says in words what the colour says.

    ok: None for what is neither right nor wrong. `lines` are HTML already, one paragraph line each.
    """
    colour = {True: GREEN, False: VERMILLION, None: BLUE}[ok]
    body = "<br>".join(lines)
    style = f"border-left:4px solid {colour};padding:.3em .8em;margin:.4em 0"
    return f'<div role="status" style="{style}"><b>{html.escape(headline)}</b> {body}</div>'


@dataclass(frozen=True)
class Feedback:
    """The reply to one answer; true when the answer is right.

    `understood` is false where the answer is not one the question can have ("e" of a to d), and
    where it is no answer to be judged, such as a guess before a measurement.
    """

    question_id: str
    ok: bool
    text: str
    understood: bool = True

    def __bool__(self) -> bool:
        return self.ok

    @property
    def headline(self) -> str:
        """The verdict in one or two words; empty where the answer was not understood."""
        if not self.understood:
            return ""
        return "Right." if self.ok else "Not yet."

    def __repr__(self) -> str:
        return f"{self.headline} {self.text}".lstrip()

    def _repr_html_(self) -> str:
        ok = self.ok if self.understood else None
        return status_html(ok, self.headline, [inline_html(self.text)])

    def or_raise(self) -> "Feedback":
        """Return itself, or raise `CheckFailed` in strict mode when the answer is not right."""
        if strict() and not self.ok:
            raise CheckFailed(self.question_id, repr(self))
        return self
