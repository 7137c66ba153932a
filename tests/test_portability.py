"""Nothing that only POSIX systems have is used without a guard, so that the rest works on Windows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).parents[1] / "src").rglob("*.py"))
MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios"}
NAMES = {
    "os": {
        "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "chown", "fchmod", "fchown", "fork",
        "forkpty", "geteuid", "getegid", "getgid", "getloadavg", "getpgid", "getpriority", "getsid",
        "getuid", "initgroups", "kill", "killpg", "lchown", "mkfifo", "mknod", "nice", "openpty",
        "posix_fadvise", "posix_fallocate", "posix_spawn", "pread", "preadv", "pwrite",
        "register_at_fork", "sched_getaffinity", "sched_setaffinity", "sendfile", "setgid",
        "setpgid", "setpriority", "setsid", "setuid", "statvfs", "sysconf", "uname", "wait",
        "wait3", "wait4", "waitid", "waitstatus_to_exitcode",
    },
    "signal": {
        "ITIMER_PROF", "ITIMER_REAL", "SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE",
        "SIGPROF", "SIGSTOP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "alarm", "pause", "pthread_sigmask",
        "setitimer", "sigwait",
    },
    "multiprocessing": {"fork", "forkserver"},
}  # fmt: skip
GUARD = re.compile(
    rf"hasattr\(|getattr\(|os\.name|sys\.platform|\b({'|'.join(MODULES)}) is |(Import|Attribute)Error"
    "|get_all_start_methods"
)


def unguarded(source: str) -> Iterator[str]:
    """Uses of what Windows lacks in functions, or at the top of a file, that ask for no guard."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}

    def guarded(node: ast.AST) -> bool:
        while node in parents:
            node = parents[node]
            block = isinstance(node, ast.Try | ast.If | ast.IfExp | ast.With | ast.FunctionDef)
            if block and GUARD.search(ast.unparse(node)):
                return True
        return False

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used = {alias.name for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            used = {node.module or ""} & MODULES
            used |= {alias.name for alias in node.names} & NAMES.get(node.module or "", set())
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used = {node.attr} & NAMES.get(node.value.id, set())
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("get_context"):
            used = {one.value for one in node.args if isinstance(one, ast.Constant)} & NAMES[
                "multiprocessing"
            ]
        else:
            continue
        if used and not guarded(node):
            yield f"line {node.lineno}: {', '.join(sorted(map(str, used)))}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_what_windows_lacks_is_guarded(path: Path) -> None:
    assert list(unguarded(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import fcntl",
        "from os import fork",
        "import os\nos.fork()",
        "import os\ndef f():\n    os.kill(1, 0)",
        "import signal\nsignal.alarm(3)",
        "import multiprocessing\nmultiprocessing.get_context('forkserver')",
    ],
)
def test_what_is_not_guarded_is_found(source: str) -> None:
    assert len(list(unguarded(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    import fcntl\nexcept ImportError:\n    fcntl = None",
        "import os\nif hasattr(os, 'fork'):\n    os.fork()",
        "import os\ndef f():\n    if os.name != 'posix':\n        return\n    os.kill(1, 0)",
    ],
)
def test_what_is_guarded_is_left_alone(source: str) -> None:
    assert list(unguarded(source)) == []
