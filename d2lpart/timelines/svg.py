"""A timeline as a small SVG picture, made of text alone: fast enough to follow a slider.

It has one lane a rank, a box for each action, and what it shows in words for those who cannot see
it. The pictures of `d2lpart.figures` say more, and take a hundred times as long.
"""

import html

from d2lpart.common.display import OF_KIND
from d2lpart.common.quantities import seconds_text
from d2lpart.timelines.timeline import Timeline

WIDTH, LANE, GAP, LEFT = 900, 22, 4, 58  # pixels
NARROWEST_LABEL = 18


def lanes_svg(timeline: Timeline, length: float = 0.0) -> str:
    """Return the picture as one SVG element, `WIDTH` pixels wide, or less where it has no room.

    The axis is as long as the step, or as `length` in seconds where that is longer.
    """
    length = max(length, timeline.makespan)
    height = timeline.num_ranks * (LANE + GAP) + 18
    room = WIDTH - LEFT - 4
    scale = room / length if length else 0.0
    parts = []
    for rank in range(timeline.num_ranks):
        top = rank * (LANE + GAP)
        parts.append(f'<text x="0" y="{top + 15}">rank {rank}</text>')
        parts.append(f'<rect x="{LEFT}" y="{top}" width="{room}" height="{LANE}" fill="#f2f2f2"/>')
        for span in timeline.of_rank(rank):
            left, wide = LEFT + (span.start - timeline.start) * scale, span.seconds * scale
            kind = span.action.kind
            parts.append(
                f'<rect x="{left:.1f}" y="{top}" width="{max(wide, 0.5):.1f}" height="{LANE}" '
                f'fill="{OF_KIND[kind]}" stroke="#fff" stroke-width="0.6"/>'
            )
            label = f"{kind}{span.action.microbatch}"
            if wide >= NARROWEST_LABEL:
                parts.append(
                    f'<text x="{left + wide / 2:.1f}" y="{top + 15}" text-anchor="middle" '
                    f'fill="#000">{label}</text>'
                )
    bottom = timeline.num_ranks * (LANE + GAP) + 12
    parts.append(f'<text x="{LEFT}" y="{bottom}">0</text>')
    parts.append(
        f'<text x="{WIDTH - 4}" y="{bottom}" text-anchor="end">{seconds_text(length)}</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" '
        f'aria-label="{html.escape(timeline.headline())}" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" style="max-width:100%;height:auto" '
        f'font-family="sans-serif" font-size="11" fill="#1a1a1a">'
        f"{''.join(parts)}</svg>"
    )
