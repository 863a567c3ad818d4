"""Mutants of references that are right as well, each with the reason; see `mutation`."""

EQUIVALENT: dict[str, dict[str, str]] = {
    "02.1": {
        "if parts - {0, 1}: -> if {0, 1} - parts:": (
            "parts of layers are neither 0 nor 1, so both differences are empty, or neither is"
        ),
    },
    "01.3": {
        "held = min(batch // size, ahead) -> held = min(ahead, batch // size)": (
            "min does not mind the order"
        ),
    },
    "06.2": {
        "most = max(most, held) -> most = max(held, most)": "max does not mind the order",
    },
    "06.3": {
        "stages = [list(range(s * each, (s + 1) * each)) for s in range(p * v)] -> "
        "stages = [list(range(s * each, (s + 1) * each)) for s in range(p * v + 1)]": (
            "the stage too many is looked up by no rank"
        ),
    },
    "06.4": {
        "for k in range(r + 1 - p, m + r): -> for k in range(r + 1 - p, m + r + 1):": (
            "behind the last W a turn more has nothing to do"
        ),
    },
}
