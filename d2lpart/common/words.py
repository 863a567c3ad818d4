"""Long values in a message: cut between words, so that no number and no name loses its end."""

import builtins
import reprlib
from typing import Any

MORE = " …"


def cut(text: str, longest: int) -> str:
    """Shorten a text to at most `longest` characters; an ellipsis says that there is more.

    It ends with a whole word, unless a single one fills more than half of the room.

    >>> cut("1000 and 2000", 13), cut("1000 and 2000", 12), cut("abcdef", 5)
    ('1000 and 2000', '1000 and …', 'abc …')
    """
    if len(text) <= longest:
        return text
    room = longest - len(MORE)
    end = text.rfind(" ", room // 2, room + 1)
    return text[: end if end > 0 else room].rstrip() + MORE


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 60

    def repr_str(self, value: str, level: int) -> str:
        return builtins.repr(cut(value, self.maxstring))

    def repr_int(self, value: int, level: int) -> str:
        if abs(value) < 10**self.maxlong:
            return builtins.repr(value)
        return f"a number of more than {self.maxlong} digits"

    def repr_instance(self, value: Any, level: int) -> str:
        try:
            return cut(" ".join(builtins.repr(value).split()), self.maxother)
        except Exception:  # the user's own __repr__
            return f"<{type(value).__name__}>"


_SHORT = _Short()


def shortened(value: object) -> str:
    """Write a value on one line of a message, a long one with an ellipsis.

    >>> shortened(list(range(9))), shortened(10**50)
    ('[0, 1, 2, 3, 4, 5, ...]', 'a number of more than 40 digits')
    """
    return _SHORT.repr(value)
