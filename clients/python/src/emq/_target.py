"""Finds the app that a command line names, as in `shop.tasks:app`."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec

from ._app import App


class TargetError(Exception):
    """There is no app of this name. The text says what is wrong."""


def load(target: str) -> App:
    """Imports the app that `MODULE:APP` names; the app may be an attribute of an attribute. Raises TargetError, or what
    the module itself raises."""
    module_name, colon, path = target.partition(":")
    parts = module_name.split(".")
    if not colon or not path or not all(part.isidentifier() for part in parts):
        is_file = module_name.endswith(".py") or "/" in module_name
        hint = " (write a module's name, not that of a file)" if is_file else ""
        raise TargetError(f"write the app as MODULE:APP, such as shop.tasks:app, not {target!r}{hint}")
    # A module that is there but fails to import is the program's own error, and has a traceback.
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        try:
            is_there = find_spec(name) is not None
        except (ModuleNotFoundError, ValueError):
            is_there = name in sys.modules
        if not is_there:
            raise TargetError(f"there is no module {name!r}; the worker looks in the current directory and PYTHONPATH")
    value: object = importlib.import_module(module_name)
    for name in path.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            apps = sorted(key for key, item in vars(sys.modules[module_name]).items() if isinstance(item, App))
            hint = f"; it has {', '.join(apps)}" if apps else "; it has no emq.App at all"
            raise TargetError(f"the module {module_name!r} has no {path!r}{hint}") from None
    if not isinstance(value, App):
        raise TargetError(f"{target} is {type(value).__name__}, not an emq.App")
    return value
