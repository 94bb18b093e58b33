"""How a call of a function becomes the content of a task, and back.

The content is plain JSON, so that programs in any language can enqueue such tasks and do them:
`{"task": "shop.mail.send", "args": [], "kwargs": {"to": 1}}`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

_MAXIMUM_DEPTH = 500


class Call(NamedTuple):
    """What the content of a task says."""

    name: str
    args: list[Any]
    kwargs: dict[str, Any]


class NotACall(Exception):
    """The content of a task is not a call of a function that this worker has."""


def encode(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The content for a call. Raises TypeError or ValueError if an argument does not come out of JSON as it was."""
    content = {"task": name, "args": list(args), "kwargs": dict(kwargs)}
    try:
        # The quick way. `allow_nan` is off because NaN is not JSON.
        if json.loads(json.dumps(content, allow_nan=False)) == content:
            return content
    except (TypeError, ValueError, RecursionError):
        pass
    for index, value in enumerate(args):
        _check(value, f"argument {index + 1} of {name}", 0)
    for keyword, value in kwargs.items():
        _check(value, f"argument '{keyword}' of {name}", 0)
    raise ValueError(f"an argument of {name} does not come out of JSON as it was")


def decode(content: object) -> Call:
    """The call that a task stands for. Raises NotACall if its content is something else."""
    if isinstance(content, dict):
        fields = cast("dict[str, Any]", content)
        name: object = fields.get("task")
        args: Any = fields.get("args", [])
        kwargs: Any = fields.get("kwargs", {})
        if isinstance(name, str) and isinstance(args, list) and isinstance(kwargs, dict):
            return Call(name, args, kwargs)
    raise NotACall(
        'the content is not a call of a function: it must be {"task": "name", "args": [...], "kwargs": {...}}'
    )


def result_of(value: object, name: str) -> Any:
    """What a function has returned, as it comes out of JSON. Raises TypeError or ValueError if it cannot be JSON."""
    if value is None or isinstance(value, (bool, str)):
        return value
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"what {name} has returned cannot be a result, which is JSON: {error}") from None


def _check(value: object, place: str, depth: int) -> None:
    """Raises an error that names the part of an argument that JSON would change."""
    if depth > _MAXIMUM_DEPTH:
        raise ValueError(f"{place[:200]}… is nested deeper than {_MAXIMUM_DEPTH} levels, or contains itself")
    if value is None or isinstance(value, (bool, str)):
        return
    if isinstance(value, (int, float)):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{place} is {value}, which JSON does not have")
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[object]", value)):
            _check(item, f"{place}[{index}]", depth + 1)
    elif isinstance(value, dict):
        for key, item in cast("dict[object, object]", value).items():
            if not isinstance(key, str):
                raise TypeError(f"{place} has the key {key!r}; in JSON, keys are strings")
            _check(item, f"{place}[{key!r}]", depth + 1)
    elif isinstance(value, tuple):
        raise TypeError(f"{place} is a tuple, which comes out of JSON as a list; pass a list")
    else:
        kind = _article(type(value).__name__)
        raise TypeError(f"{place} is {kind}, which cannot be JSON; pass text or numbers for it")


def _article(word: str) -> str:
    return f"an {word}" if word[:1].lower() in "aeiou" else f"a {word}"
