"""JSON as emq takes it, and the units of the library's arguments."""

import json
import math
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_decoder = json.JSONDecoder()


def _integer(text: str) -> int | Decimal:
    try:
        return int(text)
    except ValueError:
        # Python refuses to make an int of thousands of digits, which takes long.
        return Decimal(text)


_decoder_of_long_integers = json.JSONDecoder(parse_int=_integer)

Duration = float | timedelta
"""Seconds, or a timedelta."""

Time = float | datetime
"""Seconds since 1970, or a datetime. A datetime without a time zone is in local time."""


def encode(value: object) -> bytes:
    """The JSON of a value.

    Raises `TypeError` for what JSON cannot express, and `ValueError` for NaN, infinities, surrogates and cycles.
    """
    try:
        return _encoder.encode(value).encode()
    except RecursionError:
        raise ValueError("the value is nested too deeply for JSON") from None


def decode(data: bytes) -> Any:
    """The value of a JSON text. An integer with more digits than `int` takes is a `Decimal`. Raises `ValueError`."""
    text = data.decode()
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        # One such number in a task must not hide the others of an answer.
        return _decoder_of_long_integers.decode(text)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def seconds(duration: Duration, name: str) -> float:
    """A duration as a number of seconds. Raises `TypeError` and `ValueError`, which name the argument."""
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    return _number(duration, name, "a number of seconds or a timedelta")


def unix_time(time: Time, name: str) -> float:
    """A time as seconds since 1970. Raises `TypeError` and `ValueError`, which name the argument."""
    if isinstance(time, datetime):
        return time.timestamp()
    return _number(time, name, "a number of seconds since 1970 or a datetime")


def _number(value: object, name: str, wanted: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is {type(value).__name__}, and must be {wanted}")
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}, and must be {wanted}")
    return value


def path(*parts: str, **parameters: object) -> str:
    """A path and its query; parameters that are None are left out.

    The first part is a path as it is, the others are names that are percent-encoded.
    """
    text = parts[0] + "/".join(map(_quoted, parts[1:]))
    query = "&".join(f"{name}={_parameter(value)}" for name, value in parameters.items() if value is not None)
    return f"{text}?{query}" if query else text


def _quoted(name: str) -> str:
    if not name:
        raise ValueError("the name or id is empty")
    text = quote(name, safe="")
    # A client or a proxy might take these for steps in a path.
    return text.replace(".", "%2E") if name in (".", "..") else text


def _parameter(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a number that a query can have")
        # Not repr: it would write 1e-05.
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return quote(str(value), safe="")
