"""Freed memory is kept by glibc, and nothing is changed where the user has a say in it."""

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from d2lpart.allocator import keep_freed_memory

GLIBC = platform.libc_ver()[0] == "glibc"
needs_glibc = pytest.mark.skipif(not GLIBC, reason="the setting is glibc's")

# Page faults of making and freeing 8 blocks of 1 MiB, once they have been made before, on a thread.
PROGRAM = """
import resource, sys, threading
import torch
from torch import nn
from d2lpart import Pipeline

if sys.argv[1] == "pipeline":
    Pipeline([nn.Linear(2, 2)], devices=["cpu"])

def work():
    for _ in range(20):
        blocks = [torch.empty(2**18).fill_(1.0) for _ in range(8)]
        del blocks

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


def faults(*arguments, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "D2LPART_KEEP"))}
    clean.pop("GLIBC_TUNABLES", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@needs_glibc
def test_a_pipeline_ends_most_page_faults_and_may_be_told_not_to():
    pages = 20 * 8 * 2**20 // os.sysconf("SC_PAGESIZE")  # if every block were asked for anew
    kept = faults("pipeline")
    assert kept < pages / 10
    assert faults("nothing") > 2 * kept + 100
    assert faults("pipeline", D2LPART_KEEP_MEMORY="off") > 2 * kept + 100


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


def test_both_settings_are_made(calls):
    assert keep_freed_memory()
    assert calls == [(-3, 32 * 2**20), (-1, 2**31 - 1)]


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
