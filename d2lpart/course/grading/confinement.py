"""Confines this process for good, tries out what holds, and then serves a submission.

The file is run by its path, before anything but the standard library is loaded:

    python -I -S -B confinement.py SETTINGS

SETTINGS is a JSON object: `fd`, the socket to the parent; `readable`, the files and folders that
stay readable; `path`, where packages lie; `memory`, in bytes, on top of what the libraries take;
`cpu_seconds`; `secret`, a file that must not be readable. Every layer that the system lacks is
left out, so that what really holds is found by trying (`probe`), not by presuming.
"""

import contextlib
import ctypes
import json
import mmap
import os
import platform
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Any

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = 0x08000000, 0x10000000, 0x40000000
CLONE_THREAD = 0x10000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# Landlock's system calls have the same numbers everywhere; linux/landlock.h has the bits.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many rights each version knows
READ_FILE, READ_DIR = 1 << 2, 1 << 3
ALL_TCP, ALL_SCOPES = 0b11, 0b11  # bind, connect; abstract sockets, signals

# Refused calls, each with its number on x86_64 and on aarch64 (None: it has no such call).
REFUSED: dict[str, tuple[int | None, int | None]] = {
    **{"fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281)},
    **{"kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131)},
    **{"rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240)},
    **{"pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438), "ptrace": (101, 117)},
    **{"process_vm_readv": (310, 270), "process_vm_writev": (311, 271)},
    **{"setpriority": (141, 140), "sched_setaffinity": (203, 122), "ioprio_set": (251, 30)},
    **{"sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274)},
    **{"socket": (41, 198), "io_uring_setup": (425, 425), "bpf": (321, 280)},
    **{"perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219)},
    **{"add_key": (248, 217), "request_key": (249, 218)},
    **{"unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39)},
    **{"shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180)},
    **{"chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452)},
    **{"chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54)},
    **{"setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7)},
    **{"removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16)},
    **{"utime": (132, None), "utimes": (235, None), "futimesat": (261, None)},
    "utimensat": (280, 88),
}
CLONE, CLONE3, PRLIMIT64 = (56, 220), 435, (302, 261)

libc = ctypes.CDLL(None, use_errno=True)


def limit(cpu_seconds: int) -> None:
    """Set the limits that do not depend on what is loaded. No file may grow by a single byte."""
    for name, most in [("CPU", cpu_seconds), ("FSIZE", 0), ("NOFILE", 64), ("CORE", 0)]:
        _lower(getattr(resource, f"RLIMIT_{name}"), most)


def _lower(what: int, most: int) -> None:
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(what, (most, most))


def limit_memory(mapped: int, more: int) -> None:
    """Allow `more` bytes of address space on top of the `mapped` ones."""
    _lower(resource.RLIMIT_AS, mapped + more)


def leave_the_machine() -> None:
    """Move into namespaces of its own, without network; give up every capability and new ones."""
    if not sys.platform.startswith("linux"):
        return
    libc.unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
    libc.capset(header, none)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def allow_reading(paths: Iterable[str]) -> None:
    """Let Landlock forbid all files but `paths`, for reading alone; and TCP, and signals."""
    if not sys.platform.startswith("linux"):
        return
    version = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return
    handled = (1 << FILE_RIGHTS[min(version, 5)]) - 1
    size = 8 if version < 4 else 16 if version < 6 else 24
    attributes = struct.pack("QQQ", handled, ALL_TCP, ALL_SCOPES)[:size]
    rules = libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    for path in paths:
        _allow(rules, path)
    libc.syscall(RESTRICT_SELF, rules, 0)
    os.close(rules)


def _allow(rules: int, path: str) -> None:
    """Add one rule; a path that ends in /* stands for the names in a folder, not their content."""
    names_only = path.endswith("/*")
    with contextlib.suppress(OSError):
        place = os.open(path.removesuffix("/*") or "/", os.O_PATH | os.O_CLOEXEC)
        rights = READ_DIR if names_only else READ_FILE
        if os.path.isdir(path) and not names_only:
            rights |= READ_DIR
        libc.syscall(ADD_RULE, rules, 1, struct.pack("=Qi", rights, place), 0)
        os.close(place)


def refuse_calls() -> bool:
    """Let the kernel refuse what starts processes, reaches others, or changes files' attributes.

    Threads can still be made. False where the system has no such filter.
    """
    machine = platform.machine()
    if not sys.platform.startswith("linux") or machine not in ARCHITECTURES:
        return False
    program = b"".join(_filter(ARCHITECTURES[machine], machine == "aarch64"))
    buffer = ctypes.create_string_buffer(program, len(program))
    pointer = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    return bool(libc.prctl(PR_SET_SECCOMP, 2, pointer, 0, 0) == 0)


def _filter(architecture: int, column: bool) -> list[bytes]:
    """Return the filter as instructions of classic BPF; see linux/filter.h and linux/seccomp.h."""

    def step(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("HBBI", code, if_true, if_false, operand)

    load, equal, at_least, has_bit, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    allowed, refused, unknown, killed = 0x7FFF0000, 0x50000 | 1, 0x50000 | 38, 0x80000000
    number, argument = 0, 16  # offsets in struct seccomp_data; the architecture is at 4
    steps = [step(load, 4), step(equal, architecture, 1), step(answer, killed)]
    steps += [step(load, number), step(at_least, 0x40000000, 0, 1), step(answer, killed)]
    for numbers in REFUSED.values():
        if (call := numbers[column]) is not None:
            steps += [step(equal, call, 0, 1), step(answer, refused)]
    steps += [step(equal, CLONE3, 0, 1), step(answer, unknown)]  # the C library then takes clone
    for call, good in [(CLONE[column], has_bit), (PRLIMIT64[column], equal)]:
        wanted = CLONE_THREAD if good == has_bit else 0  # a thread; the limits of itself
        steps += [step(equal, call, 0, 4), step(load, argument), step(good, wanted, 1)]
        steps += [step(answer, refused), step(answer, allowed)]
    return [*steps, step(answer, allowed)]


def probe(settings: dict[str, Any]) -> dict[str, bool]:
    """Try what must not work; True for each thing that is prevented."""
    return {
        "reading the course and other files": _fails(lambda: os.open(settings["secret"], 0)),
        "writing files": _fails(lambda: _write(settings["path"][0])),
        "network": _fails(_reach),
        "new processes": _fails(_fork),
        "signals to others": _fails(lambda: os.kill(os.getppid(), 0)),
        "more memory": _fails(lambda: mmap.mmap(-1, 2 * settings["memory"]).close()),
    }


def _fails(attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except OSError:
        return True
    return False


def _write(folder: str) -> None:
    place = os.path.join(folder, f"probe-{os.getpid()}")
    file = os.open(place, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.write(file, b"x")
    finally:
        os.close(file)
        os.unlink(place)


def _reach() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as place:
        place.connect(("127.0.0.1", 9))


def _fork() -> None:
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)


def main(settings: dict[str, Any]) -> None:
    """Confine this process, load the libraries, and serve the parent until it hangs up."""
    sizes = None
    with contextlib.suppress(OSError):
        sizes = os.open("/proc/self/statm", os.O_RDONLY)
    limit(settings["cpu_seconds"])
    leave_the_machine()
    allow_reading(settings["readable"])
    if not refuse_calls():
        _lower(resource.RLIMIT_NPROC, 0)
    sys.path[:0] = settings["path"][:1]
    sys.path += settings["path"][1:]
    from d2lpart.course.grading import child

    mapped = int(os.pread(sizes, 100, 0).split()[0]) * mmap.PAGESIZE if sizes else 0
    if sizes:
        os.close(sizes)
    limit_memory(mapped, settings["memory"])
    child.serve(settings["fd"], probe(settings))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
