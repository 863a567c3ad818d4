"""The picture on the README's front: the same work without overlap, and in the 1F1B order.

`python -m d2lpart.course.notebooks.cover` draws it anew.
"""

from pathlib import Path

from d2lpart import build_schedule, simulate
from d2lpart.timelines.timeline import Comparison

PICTURE = Path("notebooks/figures/readme.png")


def cover_comparison() -> Comparison:
    """Return the two timelines: 4 ranks, 8 micro-batches, a backward twice as long as a forward."""
    naive, one_f_one_b = (build_schedule(name, 4, 8) for name in ("naive", "1f1b"))
    durations = {"F": 1.0, "B": 2.0}
    return simulate(naive, durations).compare(simulate(one_f_one_b, durations))


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    cover_comparison().plot().savefig(PICTURE, dpi=110, metadata={"Software": None})
    print(PICTURE)
