"""The class of a method by its name: ours, of an installed package, or of a file that the user has named.

A package offers a method by an entry point of the group ``sacma.methods``. A method of a file is called
FILE.py:CLASS. A folder with the weights of a method from outside holds method.json, where it came from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sacma import plugins
from sacma.errors import SacmaError, meant, printable
from sacma.files import read_json, write_json
from sacma.models import METHODS
from sacma.plugins import Origin

if TYPE_CHECKING:
    from sacma.models.base import Method

ORIGIN = "method.json"


class _Opened(NamedTuple):
    method: type[Method]
    origin: Origin | None


_OPENED: dict[str, _Opened] = {}
"""Methods from outside that this process has loaded, by name."""


def method_class(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        SacmaError: there is no method of that name, or its package is broken.
    """
    if not isinstance(name, str):  # a file may say anything
        raise SacmaError(f"no method {printable(name)}; there are: {', '.join(METHODS)}")
    if name in METHODS:
        return METHODS[name]
    if name in _OPENED:
        return _OPENED[name].method
    outside = plugins.offered(plugins.METHODS)
    if name not in outside:
        if plugins.names_file(name):
            raise SacmaError(
                f"the method {printable(name)} is of a file; give it as --method PATH/FILE.py:CLASS"
            )
        if name.endswith(".py"):
            raise SacmaError(f"{printable(name)} names no class; write it as FILE.py:CLASS")
        known = (*METHODS, *outside)
        raise SacmaError(f"no method {printable(name)}; there are: {', '.join(known)}{meant(name, known)}")
    found, origin = plugins.load(plugins.METHODS, name)
    _OPENED[name] = _Opened(_checked(found, f"{printable(name)} of {origin}"), origin)
    return _OPENED[name].method


def method_from_file(text: str) -> str:
    """Run a file that the user has named as PATH.py:CLASS; returns the name of its method from then on.

    Raises:
        SacmaError: there is no such file or class, or it is no method.
    """
    return _keep(*plugins.load_file(text))


def remember_origin(name: str, folder: Path, *, portable: bool = False) -> None:
    """Write method.json where the method is from outside.

    Args:
        name: of the method.
        folder: of a run or of weights.
        portable: without the folder of a file.
    """
    opened = _OPENED.get(name)
    if opened is not None and opened.origin is not None:
        origin = opened.origin
        file = Path(origin.file).name if portable else origin.file
        write_json(folder / ORIGIN, replace(origin, file=file).to_dict())


def recall_method(name: str, folder: Path) -> None:
    """Make a method known by the method.json of a folder, where it is of a file or its package is missing.

    Raises:
        SacmaError: the method's package or file is not here, or the file was not run on this machine.
    """
    path = folder / ORIGIN
    if name in METHODS or not path.is_file():
        return
    origin = Origin.from_dict(read_json(path), source=path)
    what = f"the method {printable(name)} of {folder}"
    if origin.package:
        if name not in _OPENED and name not in plugins.offered(plugins.METHODS):
            raise plugins.missing(origin, what)
        return
    opened = _OPENED.get(name)
    if opened is None or opened.origin is None or opened.origin.sha256 != origin.sha256:
        _keep(*plugins.load_recorded(origin, what))


def name_of(method: type[Method]) -> str:
    """The name of a method's class.

    Raises:
        SacmaError: the class has none.
    """
    for name, opened in _OPENED.items():
        if opened.method is method:
            return name
    for name in METHODS:
        if METHODS[name] is method:
            return name
    raise SacmaError(f"the class {method.__name__} is no method with a name")


@contextmanager
def named(method: type[Method]) -> Iterator[str]:
    """A name for a class of a method, within; its own one where it has one.

    Raises:
        SacmaError: the class is no method.
    """
    _checked(method, printable(getattr(method, "__name__", method)))
    try:
        own = name_of(method)
    except SacmaError:
        own = ""
    if own:
        yield own
        return
    name = f"{method.__name__} (unnamed)"
    _OPENED[name] = _Opened(method, None)
    try:
        yield name
    finally:
        del _OPENED[name]


def _keep(found: Any, origin: Origin) -> str:
    name = f"{Path(origin.file).name}:{origin.object}"
    _OPENED[name] = _Opened(_checked(found, name), origin)
    return name


def _checked(found: Any, what: str) -> type[Method]:
    from sacma.models.base import Method

    if not isinstance(found, type) or not issubclass(found, Method):
        raise SacmaError(f"{what} is no method; it must be a subclass of sacma.Method")
    return found
