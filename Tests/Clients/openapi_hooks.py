"""How schemathesis sends requests to emq. `openapi` names this module to it.

Random names and ids would hardly ever meet: here, half of the requests use a few queues, and the tasks that emq has
shown. Requests wait only briefly, and URLs lead nowhere but to this machine.
"""

import random
import re

import schemathesis

LONGEST_WAIT = 50
"""How long a request may wait for tasks or results, in milliseconds."""
QUEUES = ["a", "b/c", "ä"]
NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,60}")
ID = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
HOST = re.compile(r"^(\w+://(?:[^/?#@]*@)?)[^/?#@:\[\]%]+", re.ASCII)

chance = random.Random(0)
"""Makes the choices of this module. The seed of schemathesis decides all others."""
tasks = []
"""The ids and receipts that emq has shown last."""


@schemathesis.hook
def before_load_schema(context, raw_schema):
    """Failures of HTTP itself, which requests of schemathesis cannot have, are no answer to them."""
    for item in raw_schema["paths"].values():
        for operation in item.values():
            if isinstance(operation, dict):
                del operation["responses"]["default"]


@schemathesis.hook
def before_call(context, case, kwargs):
    parameters = case.path_parameters or {}
    if NAME.fullmatch(str(parameters.get("queue", ""))) and chance.random() < 0.5:
        parameters["queue"] = chance.choice(QUEUES)
    if ID.fullmatch(str(parameters.get("id"))) and tasks:
        parameters["id"] = chance.choice(tasks)[:22]
    for part in case.body, case.query:
        soften(part)


@schemathesis.hook
def after_call(context, case, response):
    for receipt in re.findall(r'"(?:id|receipt)":"([^"]+)"', response.text):
        tasks.append(receipt)
        del tasks[:-10]


def soften(value):
    """Changes members of a request, but never whether they are valid."""
    if isinstance(value, list):
        for element in value:
            soften(element)
    if not isinstance(value, dict):
        return
    for name, member in value.items():
        if name == "timeout" and isinstance(member, (int, float)) and not isinstance(member, bool):
            # A fraction stays one, because it is wrong.
            if member > LONGEST_WAIT:
                value[name] = LONGEST_WAIT + member % 1
        elif name in ("url", "on_dead", "amqp") and isinstance(member, str):
            value[name] = HOST.sub(r"\g<1>127.0.0.1", member)
        elif name in ("ids", "ack", "queues") and isinstance(member, list):
            for index, element in enumerate(member):
                if not isinstance(element, str):
                    continue
                if name == "queues" and NAME.fullmatch(element) and chance.random() < 0.5:
                    member[index] = chance.choice(QUEUES)
                if name != "queues" and ID.fullmatch(element) and tasks:
                    member[index] = chance.choice(tasks)
        else:
            soften(member)
