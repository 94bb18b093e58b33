"""`python manage.py emq_work` does the tasks that a backend of emq has enqueued."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.tasks import task_backends
from django.tasks.exceptions import InvalidTaskBackend

from ...._command import add_worker_arguments, prepare, work_with
from ... import EMQBackend
from ...worker import DjangoApp


class Command(BaseCommand):
    """The options are those of `python -m emq work`."""

    help = (
        "Does the tasks of a backend of emq. Without --queue, it takes those of all QUEUES of the backend, in turn. "
        "SIGTERM and SIGINT let functions end for --grace; a second signal gives their tasks back at once."
    )

    def run_from_argv(self, argv: list[str]) -> None:
        super().run_from_argv([*argv[:2], *prepare(argv[2:])])

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--backend", default="default", help="the backend in TASKS (default: default)")
        add_worker_arguments(parser)
        self._parser = parser

    def handle(self, *args: Any, **options: Any) -> None:
        alias = options["backend"]
        try:
            backend = task_backends[alias]
        except InvalidTaskBackend as error:
            raise CommandError(str(error), returncode=2) from error
        if not isinstance(backend, EMQBackend):
            kind = f"{type(backend).__module__}.{type(backend).__qualname__}"
            raise CommandError(f"TASKS[{alias!r}] is a {kind}, not an emq.django.EMQBackend", returncode=2)
        if problems := backend.check():
            raise CommandError(str(problems[0]), returncode=2)

        from argparse import Namespace

        status = work_with(DjangoApp(backend), Namespace(**options), f"emq.django.worker:apps.{alias}", self._fail)
        if status:
            sys.exit(status)

    def _fail(self, message: str) -> Any:
        raise CommandError(message, returncode=2)
