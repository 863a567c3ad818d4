"""The memory allocator of the C library: what a step frees is kept for the next step.

A step makes and frees the same activations and gradients again and again. glibc gives large blocks
back to the system when they are freed, and the system hands them out anew page by page, each page
filled with zeros: thousands of page faults a step, most of them in the threads of the ranks. Two
settings of `mallopt` end that; the process then keeps what it has used until it ends.
"""

import ctypes
import os

OPT_OUT = "D2LPART_KEEP_MEMORY"

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # the names of the settings in malloc.h
NEVER = 2**31 - 1  # free bytes at the end of the heap that are given back: the most that fits
LARGE = 32 * 2**20  # bytes from which a block is mapped by itself: where glibc's own rule ends


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
    return bool(library.mallopt(MMAP_THRESHOLD, LARGE) and library.mallopt(TRIM_THRESHOLD, NEVER))


def _user_has_set() -> bool:
    return any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
