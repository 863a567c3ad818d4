"""Freed memory is kept by glibc, and nothing is changed where the user has a say in it."""

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from d2lpart.machine.allocator import keep_freed_memory

GLIBC = platform.libc_ver()[0] == "glibc"
needs_glibc = pytest.mark.skipif(not GLIBC, reason="the setting is glibc's")

# The fewest page faults of the later steps of two ranks: a thread that begins while one of the step
# before is still ending gets memory of its own, and that is new to the process.
PROGRAM = """
import resource, torch
from d2lpart import Decoder, Pipeline

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

torch.set_num_threads(1)
decoder = Decoder(vocab_size=256, width=256, num_layers=4, num_heads=4, context=64)
pipeline = Pipeline(decoder, devices=["cpu"] * 2, num_microbatches=4, clock="wall")
inputs, targets = torch.randint(256, (2, 16, 64))
found = []
for _ in range(10):
    decoder.zero_grad()
    before = faults()
    pipeline.step(inputs, targets)
    found.append(faults() - before)
print(min(found[4:]))
"""


def faults(**environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "D2LPART_KEEP"))}
    clean.pop("GLIBC_TUNABLES", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@needs_glibc
def test_a_pipeline_ends_most_page_faults_and_may_be_told_not_to():
    assert faults() < faults(D2LPART_KEEP_MEMORY="off") / 4


@pytest.fixture
def calls(monkeypatch):
    """A C library that notes what is set, in an environment without settings."""
    made = []

    class Library:
        gnu_get_libc_version = None

        @staticmethod
        def mallopt(name, value):
            made.append((name, value))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library)
    for name in list(os.environ):
        if name.startswith(("MALLOC_", "D2LPART_KEEP", "GLIBC_")):
            monkeypatch.delenv(name)
    return made


def test_all_settings_are_made(calls):
    assert keep_freed_memory()
    assert calls == [(-3, 32 * 2**20), (-1, 2**31 - 1), (-2, 64 * 2**20)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("D2LPART_KEEP_MEMORY", "off"),
        ("MALLOC_TRIM_THRESHOLD_", "1000"),
        ("MALLOC_ARENA_MAX", "2"),
        ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=1000"),
    ],
)
def test_what_the_user_has_set_stays(calls, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert not keep_freed_memory()
    assert calls == []


@pytest.mark.parametrize("library", [OSError, TypeError])
def test_without_such_a_library_nothing_happens(calls, monkeypatch, library):
    def none(name):
        raise library

    monkeypatch.setattr(ctypes, "CDLL", none)
    assert not keep_freed_memory()


def test_another_c_library_is_left_alone(calls, monkeypatch):
    class Other:
        mallopt = None

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Other)
    assert not keep_freed_memory()


def test_a_refusal_is_reported(calls, monkeypatch):
    class Refuses:
        gnu_get_libc_version = None

        @staticmethod
        def mallopt(name, value):
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Refuses)
    assert not keep_freed_memory()
