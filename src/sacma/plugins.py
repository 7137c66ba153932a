"""Code from outside: entry points of installed packages, and Python files that the user names.

A package offers a method, a backbone or a text encoder by an entry point of one of ``GROUPS``. It is imported
when its name is asked for, so a broken one ends no other command. A file is run only where the user has named
it: at once, or earlier on this machine (its checksum is kept in the cache folder). What a run folder says of
a file never suffices, as run folders come from other people too.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import util
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import Any, Self, TypeVar

from sacma.errors import SacmaError, one_line, printable
from sacma.files import cache_folder, read_text, sha256, write_text

METHODS, BACKBONES, TEXT_ENCODERS = GROUPS = ("sacma.methods", "sacma.backbones", "sacma.text_encoders")
Made = TypeVar("Made")

_FILE = re.compile(r"(?P<path>.+\.py):(?P<name>[A-Za-z_]\w*)")
_ALLOWED = "methods-run-here.txt"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where code came from.

    Attributes:
        object: name of the class or function; with its module, where a package brings it.
        package: the distribution, empty for a file.
        version: of the distribution, empty for a file.
        file: path of the file, empty for a package.
        sha256: of the file, empty for a package.
    """

    object: str
    package: str = ""
    version: str = ""
    file: str = ""
    sha256: str = ""

    def to_dict(self) -> dict[str, str]:
        """Plain values for JSON."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], *, source: Path) -> Self:
        """Read what ``to_dict`` gave.

        Raises:
            SacmaError: a field is unknown or no text; ``source`` is named.
        """
        known = cls.__dataclass_fields__
        if "object" not in content or not all(
            name in known and isinstance(value, str) for name, value in content.items()
        ):
            raise SacmaError(f"{source} is damaged: it does not say where a method came from; copy it again")
        return cls(**content)

    def __str__(self) -> str:
        if self.package:
            return f"package {self.package} {self.version}"
        return f"class {self.object} of {self.file}, SHA-256 {self.sha256[:12]}"


# --- Entry points -------------------------------------------------------------------------------------


def offered(group: str) -> tuple[str, ...]:
    """Names that installed packages offer in a group, in order; nothing is imported."""
    return tuple(sorted(entry_points(group=group).names))


def load(group: str, name: str) -> tuple[Any, Origin]:
    """Import what an installed package offers under a name, and say where it came from.

    Args:
        group: one of ``GROUPS``.
        name: one of ``offered(group)``.

    Raises:
        SacmaError: two packages offer the name, or the import fails; the packages are named.
    """
    found = tuple(entry_points(group=group, name=name))
    if len(found) > 1:
        packages = ", ".join(sorted(_package(one) for one in found))
        raise SacmaError(f"several packages offer {printable(name)} ({packages}); uninstall all but one")
    (point,) = found
    origin = Origin(
        object=point.value, package=_package(point), version=point.dist.version if point.dist else ""
    )
    try:
        return point.load(), origin
    except (Exception, SystemExit) as error:  # code of others may fail in any way
        raise SacmaError(
            f"{printable(name)} of {origin} cannot be loaded: {type(error).__name__}: "
            f"{one_line(error, limit=200)}; update or uninstall it"
        ) from error


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unknown package"


def called(make: Callable[[], Any], what: str, kind: type[Made]) -> Made:
    """Call code of a package, and check what it gives.

    Args:
        make: calls it.
        what: it and its package, for errors.
        kind: the class of what it has to give.

    Raises:
        SacmaError: it raised an error, or gave something else.
    """
    try:
        made = make()
    except SacmaError:
        raise
    except Exception as error:  # code of others may fail in any way
        reason = one_line(error, limit=200)
        raise SacmaError(f"{what} cannot be opened: {type(error).__name__}: {reason}; update it") from error
    if not isinstance(made, kind):
        expected = f"{kind.__module__}.{kind.__name__}"
        raise SacmaError(f"{what} gave a {type(made).__name__}, no {expected}; update it")
    return made


def missing(origin: Origin, what: str) -> SacmaError:
    """The error for a package that is not installed, or that no longer offers something.

    Args:
        origin: where it came from.
        what: it, such as "the method 'cosine' of runs/mine".
    """
    try:
        now = version(origin.package)
    except ImportError:
        return SacmaError(f"{what} is of {origin}, which is not installed; pip install {origin.package}")
    return SacmaError(
        f"{what} is of {origin}; the version installed, {now}, has no such entry point; "
        f"pip install {origin.package}=={origin.version}"
    )


# --- Files --------------------------------------------------------------------------------------------


def names_file(text: str) -> bool:
    """True for PATH.py:NAME."""
    return _FILE.fullmatch(text) is not None


def file_name(text: str) -> str:
    """PATH.py:NAME without the folders."""
    path, _, name = text.rpartition(":")
    return f"{Path(path).name}:{name}"


def load_file(text: str) -> tuple[Any, Origin]:
    """Run a Python file that the user has named as PATH.py:NAME, and remember that it may be run.

    Returns:
        The object of that name, and where it came from.

    Raises:
        SacmaError: there is no such file or name, or the file raises an error.
    """
    match = _FILE.fullmatch(text)
    if match is None:
        raise SacmaError(f"{printable(text)} names no class of a file; write it as path/to/file.py:Class")
    path = Path(match["path"]).resolve()
    if not path.is_file():
        raise SacmaError(f"no file {path}; write it as path/to/file.py:Class")
    origin = Origin(object=match["name"], file=str(path), sha256=sha256(path))
    found = _run(path, origin)
    _allow(origin)
    return found, origin


def load_recorded(origin: Origin, what: str) -> tuple[Any, Origin]:
    """Run the file that a run folder names, if the user has run its present content on this machine.

    Args:
        origin: as the folder says.
        what: what needs it, for errors.

    Returns:
        The object, and where it came from now.

    Raises:
        SacmaError: the file is gone, or its content was not run on this machine by the user.
    """
    known = _allowed()
    places = [
        Path(origin.file),
        *(Path(path) for path, checksum in known.items() if checksum == origin.sha256),
    ]
    there = [path for path in places if path.is_absolute() and path.is_file()]
    for path in there:
        now = replace(origin, file=str(path), sha256=sha256(path))
        if now.sha256 in known.values():
            return _run(path, now), now
    place = there[0] if there else f"PATH/{Path(origin.file).name}"
    state = "was not run on this machine in its present form" if there else "is not here"
    raise SacmaError(
        f"{what} is {origin}, which {state}; get the file, and if you trust its code allow it with: "
        f"sacma train --method {place}:{origin.object} --help"
    )


def _run(path: Path, origin: Origin) -> Any:
    name = f"sacma_file_{path.stem}_{origin.sha256[:12]}"
    if name not in sys.modules:
        spec = util.spec_from_file_location(name, path)
        assert spec is not None, "it ends in .py"
        assert spec.loader is not None, "a file has one"
        module = util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:  # code of the user may fail in any way
            del sys.modules[name]
            raise SacmaError(
                f"{path} cannot be run: {type(error).__name__}: {one_line(error, limit=200)}; mend it"
            ) from error
    if not hasattr(sys.modules[name], origin.object):
        raise SacmaError(
            f"{path} has no {origin.object}; write --method {path.name}:CLASS with a class of it"
        )
    return getattr(sys.modules[name], origin.object)


def _allowed() -> dict[str, str]:
    """Path -> SHA-256 of the files that the user has run on this machine."""
    path = cache_folder() / _ALLOWED
    if not path.is_file():
        return {}
    pairs = (line.partition("  ") for line in read_text(path).splitlines())
    return {place: checksum for checksum, _, place in pairs}


def _allow(origin: Origin) -> None:
    known = _allowed()
    if known.get(origin.file) != origin.sha256:
        known[origin.file] = origin.sha256
        lines = "".join(f"{checksum}  {place}\n" for place, checksum in known.items())
        write_text(cache_folder() / _ALLOWED, lines)
