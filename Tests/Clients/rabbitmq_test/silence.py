"""A network that drops all packets without a word, and connections on which nothing happens."""

import os
import subprocess
import time

import pika

from rabbitmq_test.node import Relay
from rabbitmq_test.program import Emq, directory
from tls_test.peers import check, eventually, part


def run(node):
    part("a network that drops all packets, and an idle connection")
    node.declare("idle", "hole")
    relay = Relay(node)
    idle = Emq()
    idle.add("idle", node.url(relay.port))
    idle.until("idle", "consuming")
    began = time.monotonic()
    network = Network.make()
    if network:
        try:
            black_hole(node, network)
        finally:
            network.end()
    # More than two heartbeats of any kind.
    time.sleep(max(0, 45 - (time.monotonic() - began)))
    check("an idle connection stays", relay.accepted == 1, relay.accepted)
    node.publish("idle", b"at last")
    check("it still works", "at last", idle.take_one("idle")["content"])
    idle.stop()
    relay.stop()


class Network:
    """A network namespace, and a pair of devices that connects it with this one."""

    def __init__(self):
        number = os.getpid() % 16384
        self.namespace = f"emq-test-{os.getpid()}"
        self.devices = f"emq{os.getpid()}a", f"emq{os.getpid()}b"
        base = number * 4
        prefix = f"198.{18 + base // 65536}.{base // 256 % 256}"
        self.addresses = [f"{prefix}.{base % 256 + last}" for last in (1, 2)]

    @classmethod
    def make(cls):
        """A network, or None if this process may not make one."""
        network = cls()
        try:
            network.set_up()
            return network
        except (subprocess.CalledProcessError, OSError) as error:
            network.end()
            print(f"  skipped the network: {getattr(error, 'stderr', None) or error}".rstrip(), flush=True)

    def ip(self, *command, inside=False, check=True):
        prefix = ["ip", "-n", self.namespace] if inside else ["ip"]
        return subprocess.run([*prefix, *command], check=check, capture_output=True, text=True).stdout

    def set_up(self):
        self.ip("netns", "add", self.namespace)
        peer = "peer", "name", self.devices[1], "netns", self.namespace
        self.ip("link", "add", self.devices[0], "type", "veth", *peer)
        for index, device in enumerate(self.devices):
            self.ip("address", "add", f"{self.addresses[index]}/30", "dev", device, inside=index == 1)
            self.ip("link", "set", device, "up", inside=index == 1)
        self.ip("link", "set", "lo", "up", inside=True)

    def drop(self):
        """From now on, packets go to an Ethernet address that nobody has."""
        for index, device in enumerate(self.devices):
            nobody = "lladdr", "02:00:00:00:00:99", "nud", "permanent"
            self.ip("neighbour", "replace", self.addresses[1 - index], *nobody, "dev", device, inside=index == 1)

    def heal(self):
        for index, device in enumerate(self.devices):
            self.ip("neighbour", "delete", self.addresses[1 - index], "dev", device, inside=index == 1)

    @property
    def entry(self):
        return "ip", "netns", "exec", self.namespace

    def end(self):
        try:
            self.ip("link", "delete", self.devices[0], check=False)
            self.ip("netns", "delete", self.namespace, check=False)
        except OSError:
            pass


def black_hole(node, network):
    messages = lambda first, last: [
        (str(number), pika.BasicProperties(delivery_mode=2, message_id=f"hole-{number}"))
        for number in range(first, last)]
    server = Emq(data=directory(), under=network.entry, push="198.18.0.0/15")
    server.add("hole", node.url(host=network.addresses[0]), prefetch=100)
    server.until("hole", "consuming")
    node.publish_many("hole", messages(0, 500))
    server.until_tasks("hole", 500)
    # A source that reads nothing at the moment.
    node.declare("held")
    server.add("held", node.url(host=network.addresses[0]))
    server.until("held", "consuming")
    server.call("POST", "/pause/held")
    node.publish("held", *map(str, range(50)))
    server.until("held", "waiting")
    network.drop()
    dropped = time.monotonic()
    # These are sent into the hole.
    node.publish_many("hole", messages(500, 1000))
    eventually(lambda: server.source("hole").get("state") != "consuming", 60)
    seconds = time.monotonic() - dropped
    view = server.source("hole")
    print(f"  noticed after {seconds:.0f} s: {view.get('last_error')}", flush=True)
    lines = lambda: [line for line in server.log().split("\n") if 'source="held"' in line]
    eventually(lambda: len(lines()) > 1, 35)
    check("a source that waits notices it, too", time.monotonic() - dropped < 35 and len(lines()) > 1, lines())
    check("heartbeats notice it", seconds < 35 and view.get("state") in ("retrying", "connecting"), (seconds, view))
    check("emq's own interface goes on", server.call("GET", "/healthz")[0] == 200, "")
    # RabbitMQ notices too, and has the messages again.
    eventually(lambda: node.ready("hole") == 500, 60)
    check("RabbitMQ has the messages again", node.ready("hole") == 500, node.counts("hole"))
    network.heal()
    healed = time.monotonic()
    server.until("hole", "consuming", 60)
    print(f"  consuming again {time.monotonic() - healed:.0f} s after it was healed", flush=True)
    server.until_tasks("hole", 1000, 30)
    server.call("POST", "/resume/held")
    server.until_tasks("held", 50, 40)
    contents = {view["content"] for view in server.take("hole", 1000)}
    check("each message came once", len(contents) == 1000, len(contents))
    # It may be told to end while it waits for a silent peer.
    network.drop()
    node.publish_many("hole", messages(1000, 1010))
    began = time.monotonic()
    server.stop()
    check("SIGTERM in the silence", time.monotonic() - began < 15, time.monotonic() - began)
