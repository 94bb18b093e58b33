"""What the parts check with."""

import shutil
import time


class Missing(Exception):
    """A program that a part needs is not on this machine."""


def need(*programs):
    """Skips the part if a program is missing."""
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        raise Missing(f"there is no {' and no '.join(missing)}")


def expect(what, wanted, got):
    if wanted != got:
        raise AssertionError(f"{what}: wanted {wanted!r}, got {got!r}")


def holds(what, is_true, *details):
    if not is_true:
        raise AssertionError(f"{what} is not so: {details!r}")


def eventually(what, get, seconds=120):
    """Repeats `get` until it returns something true, which is returned. The time only bounds a failure."""
    deadline = time.monotonic() + seconds
    while True:
        got = get()
        if got:
            return got
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} has not come true in {seconds} s: {got!r}")
        time.sleep(0.02)
