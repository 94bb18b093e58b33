"""The command line of `python -m emq`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from ._target import TargetError, load
from ._version import VERSION
from ._worker import Worker
from ._worker_options import MAXIMUM_NAME_BYTES, WorkerOptions, default_name

if TYPE_CHECKING:
    from ._app import App
    from ._pools import Pool

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_SECONDS = 4_294_967_295.0
_MAXIMUM_JOBS = 1000

POOLS = ("threads", "processes", "asyncio")

_EPILOGUE = """\
A duration is a number of seconds, or such as 500ms, 30s, 5m or 1h30m. EMQ_URL and EMQ_TOKEN name the server and the
token, unless the app does.

SIGTERM, SIGINT or SIGHUP: the worker takes no more tasks, lets functions end for --grace, then gives back what is left
and exits with 0. A second SIGTERM or SIGINT gives everything back at once.

exit status: 0 stopped as asked; 1 failed, or could not report outcomes; 2 the command line is wrong, or the server
refuses a request; 4 the server does not allow it
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, and returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m emq", description="The client of emq, a work-queue server.")
    parser.add_argument("--version", action="version", version=f"emq {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    work = commands.add_parser(
        "work",
        help="do the tasks of an app",
        description="Does the tasks of an app: runs its functions, and reports how they end.",
        epilog=_EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    work.add_argument("app", metavar="MODULE:APP", help="the app, such as shop.tasks:app")
    add_worker_arguments(work)
    options = parser.parse_args(prepare(sys.argv[1:] if arguments is None else arguments))
    try:
        app = load(options.app)
    except TargetError as error:
        work.error(str(error))
    except Exception:
        traceback.print_exc()
        print(f"python -m emq work: {options.app.partition(':')[0]} cannot be imported; see above", file=sys.stderr)
        return 1
    return work_with(app, options, options.app, work.error)


def prepare(arguments: Sequence[str]) -> list[str]:
    """Makes the optional value of --exit-when-empty one that cannot be the next argument."""
    return ["--exit-when-empty=0" if argument == "--exit-when-empty" else argument for argument in arguments]


def add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a worker."""
    add = parser.add_argument
    add("-j", "--jobs", type=_number(_MAXIMUM_JOBS), default=1, metavar="N",
        help="how many functions run at once (default 1)")  # fmt: skip
    add("--pool", choices=POOLS, default="threads",
        help="where functions run: threads (default); processes, for what needs a core each; asyncio, with all "
        "coroutines in one event loop")  # fmt: skip
    add("-q", "--queue", action="append", type=_queue, default=[], metavar="QUEUE[=WEIGHT]", dest="queues",
        help="take tasks of this queue; may be repeated. The worker empties the first queue first. With weights, such "
        "as a=3 and b=1, it asks a first three times as often. A weight follows the last equals sign of the text. "
        "Default: the queues of the app's tasks, in turn",
    )  # fmt: skip
    add("--lease", type=_duration, metavar="TIME", help="the lease to ask for (default: each task's own)")
    add("--grace", type=_duration, default=25.0, metavar="TIME",
        help="how long functions have to end after a signal (default 25s)")  # fmt: skip
    add("--exit-when-empty", type=_duration, nargs="?", const=0.0, metavar="=TIME", dest="exit_when_empty",
        help="end when there is no task; with =TIME, when there has been none for that time")  # fmt: skip
    add("--max-tasks", type=_number(None), metavar="N", help="end after N tasks")
    add("--max-time", type=_duration, metavar="TIME", help="take no more tasks after this time, and end")
    add("--worker", default=None, metavar="NAME", help="the worker's name (default: HOST-PROCESS)")
    add("--quiet", action="store_true", help="print only warnings and errors")


def work_with(app: App, options: argparse.Namespace, target: str, fail: Callable[[str], NoReturn]) -> int:
    """Runs a worker with the options of a command line, and returns its exit status."""
    if options.lease is not None and options.lease <= 0:
        fail("argument --lease: it must be above 0")
    name = options.worker or default_name()
    if len(name.encode()) > MAXIMUM_NAME_BYTES or any(letter < " " for letter in name):
        fail("argument --worker: a name has up to 255 bytes, and no control characters")
    queues = options.queues or [(queue, 1) for queue in app.queues]
    if not queues:
        fail(f"{target} has no tasks, so there is no queue to work on; name one with --queue")
    names = [queue for queue, _ in queues]
    if len(set(names)) < len(names):
        fail("argument -q/--queue: a queue is named twice")
    worker_options = WorkerOptions(
        jobs=options.jobs,
        queues=queues,
        lease=options.lease,
        grace=options.grace,
        exit_when_empty=options.exit_when_empty,
        max_tasks=options.max_tasks,
        max_time=options.max_time,
        name=name,
        handles_signals=True,
    )
    try:
        worker = Worker(app, worker_options, pool_maker(options.pool, target))
    except (ValueError, OSError) as error:
        fail(str(error))
    with _logging(options.quiet):
        status = asyncio.run(worker.run())
        if worker.left_over:
            # Threads cannot be ended, and must not keep the process from ending.
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return status


def pool_maker(kind: str, target: str) -> Callable[[App, int], Pool]:
    """What makes the pool of a kind."""
    if kind == "processes":
        from ._processes import ProcessPool

        return lambda app, jobs: ProcessPool(app, jobs, target)
    from ._pools import LoopPool, ThreadPool

    return LoopPool if kind == "asyncio" else ThreadPool


@contextmanager
def _logging(quiet: bool) -> Generator[None, None, None]:
    """Logs to standard error, unless the app has set up logging itself. The loggers of others are left alone."""
    logger = logging.getLogger("emq")
    level, propagate = logger.level, logger.propagate
    handler: logging.Handler | None = None
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(_Formatter())
        logger.addHandler(handler)
        logger.propagate = False
        if level == logging.NOTSET:
            logger.setLevel(logging.INFO)
    if quiet:
        logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        # A test may call the command of Django several times in one process.
        logger.setLevel(level)
        logger.propagate = propagate
        if handler is not None:
            logger.removeHandler(handler)


class _Formatter(logging.Formatter):
    """Lines as those of `emq work`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{text}.{int(record.msecs):03}Z"

    def format(self, record: logging.LogRecord) -> str:
        record.levelname = record.levelname.lower()
        return super().format(record)


def _number(maximum: int | None) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0
        if value < 1 or (maximum is not None and value > maximum):
            limits = "1 or more" if maximum is None else f"from 1 to {maximum}"
            raise argparse.ArgumentTypeError(f"it must be a number, {limits}, not {text!r}")
        return value

    return number


def _duration(text: str) -> float:
    try:
        if _DURATION.fullmatch(text):
            value = sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text))
        else:
            value = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else -1.0
    except (ValueError, OverflowError):
        value = -1.0
    if not 0 <= value <= _LONGEST_SECONDS:
        raise argparse.ArgumentTypeError(f"it must be a duration, such as 30, 500ms or 1h30m, not {text!r}")
    return value


def _queue(text: str) -> tuple[str, int | None]:
    name, equals, digits = text.rpartition("=")
    if not equals:
        name, weight = text, None
    else:
        if not (digits.isascii() and digits.isdigit() and 1 <= int(digits[:5]) <= 1000 and len(digits) <= 4):
            raise argparse.ArgumentTypeError(f"a queue's weight must be from 1 to 1000, not {digits!r}, in {text!r}")
        weight = int(digits)
    if not name or len(name.encode()) > MAXIMUM_NAME_BYTES or any(letter < " " or letter == "\x7f" for letter in name):
        raise argparse.ArgumentTypeError(f"{text!r} is not a queue: names have 1 to 255 bytes, no control characters")
    return name, weight
