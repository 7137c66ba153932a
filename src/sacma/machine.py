"""Limits of the machine: memory, addresses, processors, and files that shrink while they are read."""

from __future__ import annotations

import gc
import mmap
import os
import platform
import re
import signal
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from sacma.errors import SacmaError

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

LEAST_ADDRESSES = 1 << 30
"""Bytes of addresses that the libraries take before there is anything to do."""
_NO_MEMORY = re.compile(
    r"allocate memory|bad_alloc|failed to map segment|create a primitive|can't start new thread"
)
_handlers: list[Any] = []


def collect_seldom() -> None:
    """Look for cycles of dead objects once in 50,000 new objects, not 700.

    Libraries make objects by the hundred thousand while they are imported, and nearly all stay; each search
    goes through them all.
    """
    gc.set_threshold(50_000, *gc.get_threshold()[1:])


def check_addresses() -> None:
    """Check that there is room for the libraries: some of them end the process where there is not.

    Raises:
        SacmaError: a limit leaves less than ``LEAST_ADDRESSES``.
    """
    if resource is None:
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < LEAST_ADDRESSES:
        raise SacmaError(
            f"this process may have {limit >> 20} MiB of addresses, and the libraries alone take about "
            f"{LEAST_ADDRESSES >> 20}; raise the limit (ulimit -v)"
        )


def memory() -> int:
    """Bytes of memory that this machine or container has; a lot where that is not known."""
    known = [1 << 50]
    with suppress(OSError, ValueError, AttributeError):
        known.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):  # "max" where there is no limit
        known.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return min(known)


def processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def by_intel() -> bool:
    """True if Intel made the processor, as far as the system says."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        return "GenuineIntel" in file.read(1024)  # all processors are described, one after another
    return "GenuineIntel" in platform.processor()


def hold(process: int, on: Collection[int]) -> None:
    """Let a process, its threads and its children run on some processors alone, where the system is Linux.

    Args:
        process: its number.
        on: numbers of the processors; empty for all that this process may use.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    on = on or os.sched_getaffinity(0)
    with suppress(OSError):  # it ended, or may not be touched
        for thread in os.listdir(f"/proc/{process}/task"):
            with suppress(OSError):
                os.sched_setaffinity(int(thread), on)
                children = Path(f"/proc/{process}/task/{thread}/children").read_text(encoding="ascii")
                for child in children.split():
                    hold(int(child), on)


def memory_in_use() -> tuple[int, int]:
    """Bytes of address space and of memory in use; zeros on systems other than Linux."""
    with suppress(OSError, ValueError):
        pages = Path("/proc/self/statm").read_bytes().split()[:2]
        return int(pages[0]) * mmap.PAGESIZE, int(pages[1]) * mmap.PAGESIZE
    return 0, 0


def limit_growth(most: int) -> None:
    """Let this process take so many bytes of addresses more; no limit where it is not known what it has."""
    taken, _ = memory_in_use()
    if resource is None or not taken:
        return
    highest = resource.getrlimit(resource.RLIMIT_AS)[1]
    wanted = taken + most
    within = wanted if highest == resource.RLIM_INFINITY else min(wanted, highest)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (within, highest))


def out_of_memory(error: BaseException) -> bool:
    """True for what libraries raise where there is no memory left."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError | ImportError) and bool(_NO_MEMORY.search(str(error)))


def tell_of_shrunk_files(name: str) -> None:
    """End with a line and status 2 where a file gets shorter while it is mapped into memory.

    The system ends such a process by a signal, in the middle of an instruction, so that nothing can be
    raised. Python's own handlers would run after that instruction, which never ends.

    Args:
        name: of the program, for the line.
    """
    if not hasattr(signal, "SIGBUS") or _handlers:
        return
    import ctypes

    line = f"{name}: a file that is in use became shorter, or its disk is gone; write or copy it again\n"

    def end(_: int) -> None:
        os.write(2, line.encode())
        os._exit(2)

    _handlers.append(ctypes.CFUNCTYPE(None, ctypes.c_int)(end))
    ctypes.CDLL(None).signal(int(signal.SIGBUS), _handlers[0])
