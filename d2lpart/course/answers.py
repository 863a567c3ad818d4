"""Wrong and right answers kept in a source beside the exercise they belong to.

# %% tags=["wrong-answer"]
# EXERCISE: 05.1
# MISCONCEPTION: divides by the ideal time instead of the whole
# EXPECT: the whole step
def idle_fraction(p, m):
    return (p - 1) / m
"""

import re
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from d2lpart.course.source import ANSWER_TAGS, SourceError, tags


@dataclass(frozen=True)
class Answer:
    """One answer to an exercise, right or wrong.

    expect: a phrase of the verdict it must get; misconception: the idea it rests on. Both are empty
    for a right answer. code: the cell's code, which defines the exercise's function.
    """

    exercise: str
    right: bool
    expect: str
    misconception: str
    code: str

    @property
    def title(self) -> str:
        """What the answer is, in one line."""
        return f"{self.exercise}, {'a right answer' if self.right else self.misconception}"

    def agrees_with(self, ok: bool, verdict: str) -> bool:
        """Tell whether it got what it must get: acceptance, or a refusal with its phrase."""
        return ok if self.right else not ok and self.expect in verdict


def answer_of(cell: NotebookNode, source: Path) -> Answer | None:
    """Return the answer a cell holds; None where it is another sort of cell.

    Raises `SourceError` where a line that says what the answer is for is missing.
    """
    found = [tag for tag in tags(cell) if tag in ANSWER_TAGS]
    if not found:
        return None
    right = found == ["right-answer"]
    wanted = ["EXERCISE"] if right else ["EXERCISE", "MISCONCEPTION", "EXPECT"]
    fields = dict(re.findall(r"^# (EXERCISE|MISCONCEPTION|EXPECT): *(.+?) *$", cell.source, re.M))
    if missing := [name for name in wanted if name not in fields]:
        raise SourceError(f"{source}: the {found[0]} cell has no line '# {missing[0]}: …'")
    expect, idea = fields.get("EXPECT", ""), fields.get("MISCONCEPTION", "")
    return Answer(fields["EXERCISE"], right, expect, idea, cell.source)
