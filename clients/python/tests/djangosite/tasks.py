"""Tasks of the project."""

import asyncio
import os
import time

from asgiref.sync import sync_to_async
from django.db import connection
from django.tasks import task
from django.tasks.signals import task_finished, task_started

import emq

events = []


@task
def add(a, b):
    return a + b


@task(queue_name="mail")
async def aadd(a, b):
    await asyncio.sleep(0)
    return (a + b, "tuple")


@task
def fail(text):
    raise ValueError(text)


@task(backend="retrying", queue_name="retrying", takes_context=True)
def second_time(context, word):
    if context.attempt < 2:
        raise ConnectionError("not yet")
    return [word, context.attempt, context.task_result.id == emq.current_task().id]


@task(takes_context=True)
async def acontext(context):
    return context.attempt


@task
def dead():
    raise emq.Dead("never")


@task
def slow(seconds):
    time.sleep(seconds)


@task
def where():
    return os.getpid()


@task
def leave_connection_open():
    connection.ensure_connection()


@task
async def aleave_connection_open():
    await sync_to_async(leave_connection_open.func)()


def not_a_task():
    pass


def note(sender, task_result, signal, **kwargs):
    name = "started" if signal is task_started else "finished"
    events.append((name, sender.__name__, task_result.task.name, str(task_result.status)))


task_started.connect(note)
task_finished.connect(note)
