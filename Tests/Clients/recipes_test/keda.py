"""KEDA would understand the YAML, and would find numbers where it looks."""

import json
import re
import urllib.parse

from recipes_test.checks import Missing, expect, holds
from recipes_test.document import Recipe
from recipes_test.peers import Emq


def value(answer, location):
    """What KEDA reads: the value at a path of GJSON, which must be a number. Only paths of names are supported here."""
    holds("the path has names only", re.fullmatch(r"\w+(\.\w+)*", location), location)
    for name in location.split("."):
        holds(f"{location} exists", isinstance(answer, dict) and name in answer, answer)
        answer = answer[name]
    holds(f"{location} is a number", type(answer) in (int, float), answer)
    return answer


def run(program):
    try:
        import yaml
    except ImportError:
        # A python of another origin may lack what Debian's has.
        import subprocess
        script = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)"
        text = Recipe("Scale workers with KEDA").blocks[0].text
        try:
            done = subprocess.run(["/usr/bin/python3", "-c", script], input=text, capture_output=True, text=True)
        except FileNotFoundError:
            raise Missing("there is no module yaml (python3-yaml)") from None
        if done.returncode:
            raise Missing("there is no module yaml (python3-yaml)")
        documents = json.loads(done.stdout)
    else:
        documents = list(yaml.safe_load_all(Recipe("Scale workers with KEDA").blocks[0].text))
    scaled, authentication = documents
    expect("the kinds", [("keda.sh/v1alpha1", "ScaledObject"), ("keda.sh/v1alpha1", "TriggerAuthentication")],
           [(document["apiVersion"], document["kind"]) for document in documents])
    expect("what is scaled", "mail-worker", scaled["spec"]["scaleTargetRef"]["name"])
    holds("the bounds", 0 == scaled["spec"]["minReplicaCount"] < scaled["spec"]["maxReplicaCount"], scaled)
    expect("the parameter with the token", ["token"],
           [each["parameter"] for each in authentication["spec"]["secretTargetRef"]])

    with Emq(program) as emq:
        emq.require_tokens(keda={"allow": ["read"], "queues": ["mail"]}, all={"allow": ["enqueue", "work"]})

        def values():
            found = []
            for trigger in scaled["spec"]["triggers"]:
                expect("the scaler", "metrics-api", trigger["type"])
                metadata = trigger["metadata"]
                holds("all metadata are strings", all(isinstance(each, str) for each in metadata.values()), metadata)
                holds("the target is a positive number", float(metadata["targetValue"]) > 0, metadata)
                expect("the authentication", ("bearer", authentication["metadata"]["name"]),
                       (metadata["authMode"], trigger["authenticationRef"]["name"]))
                url = urllib.parse.urlsplit(metadata["url"])
                expect("the path", "/stats/mail", url.path)
                _, answer = emq.ask("GET", url.path, token="keda")
                found.append(value(answer, metadata["valueLocation"]))
            return found

        expect("a queue that nobody has used", [0, 0], values())
        emq.ask("POST", "/enqueue/mail", [{}, {}, {}, {"delay": 600}], token="all")
        expect("tasks that wait", [3, 0], values())
        emq.ask("POST", "/wait/", {"queues": ["mail"], "max": 1}, token="all")
        expect("a task in hand", [2, 1], values())
        emq.ask("GET", "/stats/other", wanted=403, token="keda")
        emq.ask("GET", "/stats/mail", wanted=401)
