"""The memory allocator of the C library: what a step frees is kept for the next step.

A step makes and frees the same activations and gradients again and again. glibc gives large blocks
back to the system when they are freed, and the system hands them out anew page by page, each page
filled with zeros: thousands of page faults a step, most of them in the threads of the ranks. Three
settings of `mallopt` end that; the process then keeps what it has used until it ends.
"""

import ctypes
import os

OPT_OUT = "D2LPART_KEEP_MEMORY"

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # the names of the settings in malloc.h
SETTINGS = {
    MMAP_THRESHOLD: 32 * 2**20,  # bytes from which a block is mapped by itself: glibc's own limit
    TRIM_THRESHOLD: 2**31 - 1,  # free bytes at a heap's end that go back: the most that can be set
    TOP_PAD: 64 * 2**20,  # free bytes to spare: the size of a thread's heap, so that none goes back
}


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory, for this whole process; return whether it does.

    Nothing is changed where the C library is another one, where the environment has settings for
    glibc's allocator (`MALLOC_…`, `GLIBC_TUNABLES`), and where `D2LPART_KEEP_MEMORY` is "off".
    """
    if os.environ.get(OPT_OUT, "").lower() == "off" or _user_has_set():
        return False
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # TypeError: Windows has no library of that kind
        return False
    if not (hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt")):
        return False
    done = [library.mallopt(name, value) for name, value in SETTINGS.items()]
    return all(done)


def _user_has_set() -> bool:
    return any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
