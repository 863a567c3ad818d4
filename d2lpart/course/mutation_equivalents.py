"""Mutants of references that are right as well, each with the reason; see `mutation`."""

EQUIVALENT: dict[str, dict[str, str]] = {}
