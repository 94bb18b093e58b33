"""The methods of both clients: the same for both, described, typed, and one for each request of the interface."""

from __future__ import annotations

import inspect
import pydoc
import re
from collections.abc import Callable
from typing import Any

import pytest

import emq
from emq import _calls, _calls_manage, types
from emq.testing import Server

OWN = ("tasks", "events", "close", "url", "closed", "timeout", "run")
"""Methods that each client has for itself."""


def functions() -> dict[str, Callable[..., Any]]:
    """The functions that make calls, by their names."""
    found: dict[str, Callable[..., Any]] = {}
    for module in (_calls, _calls_manage):
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                if "Call[" in str(inspect.signature(value).return_annotation):
                    found[name] = value
    return found


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")} - {"asynchronous"}


def test_both_clients_have_a_method_for_each_call() -> None:
    assert public(emq.Client) == public(emq.AsyncClient) == set(functions()) | set(OWN)


@pytest.mark.parametrize("name", sorted(functions()))
def test_methods_are_described(name: str) -> None:
    function = functions()[name]
    signature = inspect.signature(function)
    assert function.__doc__ and function.__doc__.partition("\n")[0].endswith(".")
    for kind in (emq.Client, emq.AsyncClient):
        method = getattr(kind, name)
        own = inspect.signature(method)
        assert list(own.parameters) == ["self", *signature.parameters]
        assert f"Call[{own.return_annotation}]" == signature.return_annotation
        assert method.__doc__ == function.__doc__ and method.__name__ == name
        assert method.__qualname__ == f"{kind.__name__}.{name}"
        # Later versions of Python write one argument a line.
        assert f"{name}(self" in "".join(pydoc.plain(pydoc.render_doc(method)).split())
    assert inspect.iscoroutinefunction(getattr(emq.AsyncClient, name))
    assert not inspect.iscoroutinefunction(getattr(emq.Client, name))


def test_there_is_a_method_for_each_request(shared_server: Server) -> None:
    with emq.Client(shared_server.url) as client:
        paths = client.openapi()["paths"]
    requests = {
        (method.upper(), re.sub(r"\{\w+\}", "X", path))
        for path, methods in paths.items()
        for method in methods
        if method in ("get", "post", "put", "patch", "delete")
    }
    # Another name, the pages for browsers, and what is no call but a stream.
    requests -= {("POST", "/nack/"), ("GET", "/"), ("GET", "/dashboard/X"), ("GET", "/events")}
    samples: dict[str, Any] = {"configuration": {}, "changes": {}, "tasks": [], "results": [], "ids": ["X"]}
    made: set[tuple[str, str]] = set()
    for function in functions().values():
        arguments = {
            name: samples.get(name, "X")
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.default is inspect.Parameter.empty
        }
        if function is _calls.enqueue_many:
            arguments["tasks"] = [{}]
        call = function(**arguments)
        made.add((call.method, call.path.partition("?")[0]))
    made.add(("GET", _calls_manage.errors("X").path.partition("?")[0]))
    assert made == requests


def test_everything_public_is_exported() -> None:
    assert set(emq.__all__) >= {"Client", "AsyncClient", "Task", "NewTask", "Retry", "Dead", "Release", "Error"}
    for name in emq.__all__:
        assert getattr(emq, name) is not None
        assert name in ("DEFAULT", "__version__") or getattr(emq, name).__doc__
    for name in types.__all__:
        assert getattr(types, name) is not None
    assert str(emq.DEFAULT) and repr(emq.DEFAULT) == "DEFAULT"
