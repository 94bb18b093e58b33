"""A RabbitMQ node that belongs to the test: in a directory of its own, and at ports of its own."""

import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pika

from tls_test import peers
from tls_test.peers import key, pem

PROGRAMS = "/usr/lib/rabbitmq/bin"
# The user that the sources of the test have, unless a scene says something else.
USER, PASSWORD = "emq", "correct-horse"


def free_port():
    """A port that stays free while nothing listens there: the system does not give it to connections."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        first = int(file.read().split()[0])
    while True:
        port = random.randrange(first // 2, first)
        try:
            socket.create_server(("0.0.0.0", port)).close()
            return port
        except OSError:
            continue


class Node:
    """Listens at `port`, on every address, and with TLS at `secure_port`, with the certificate `ip-address`."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(dir=peers.work)
        self.port, self.secure_port, names_port, distribution_port = (free_port() for _ in range(4))
        with open(f"{self.directory}/issuers.pem", "w") as issuers:
            for kind in ("authority", "intermediate"):
                with open(pem(kind)) as file:
                    issuers.write(file.read())
        with open(f"{self.directory}/rabbitmq.conf", "w") as file:
            file.write(
                f"listeners.tcp.1 = 0.0.0.0:{self.port}\nlisteners.ssl.1 = 127.0.0.1:{self.secure_port}\n"
                f"ssl_options.cacertfile = {self.directory}/issuers.pem\nssl_options.certfile = {pem('ip-address')}\n"
                f"ssl_options.keyfile = {key('ip-address')}\nssl_options.verify = verify_none\n"
                f"default_user = {USER}\ndefault_pass = {PASSWORD}\nloopback_users = none\n"
                "disk_free_limit.absolute = 50MB\n")
        with open(f"{self.directory}/enabled_plugins", "w") as file:
            file.write("[].")
        self.environment = {
            **os.environ,
            # The cookie that the node and rabbitmqctl share is there.
            "HOME": self.directory,
            "ERL_EPMD_PORT": str(names_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "emq-test@localhost",
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_MNESIA_BASE": f"{self.directory}/mnesia",
            "RABBITMQ_LOG_BASE": f"{self.directory}/log",
            "RABBITMQ_PID_FILE": f"{self.directory}/pid",
            "RABBITMQ_CONFIG_FILE": f"{self.directory}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{self.directory}/advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{self.directory}/enabled_plugins",
            # The system's own settings must not apply.
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            # Without busy waiting, the node leaves the cores to the others.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        }
        self.names = subprocess.Popen(["epmd", "-port", str(names_port), "-address", "127.0.0.1"])
        self.group = None

    @property
    def parameters(self):
        return pika.ConnectionParameters("127.0.0.1", self.port, credentials=pika.PlainCredentials(USER, PASSWORD))

    def url(self, port=None, host="127.0.0.1", user=USER, password=PASSWORD, vhost="", scheme="amqp"):
        return f"{scheme}://{user}:{password}@{host}:{port or self.port}{vhost}"

    def start(self, seconds=120):
        self.begin_start()
        self.until_ready(seconds)

    def begin_start(self):
        with open(f"{self.directory}/output", "a") as output:
            self.group = subprocess.Popen(
                [f"{PROGRAMS}/rabbitmq-server"], env=self.environment, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True)

    def until_ready(self, seconds=120):
        deadline = time.monotonic() + seconds
        while True:
            try:
                return pika.BlockingConnection(self.parameters).close()
            except (pika.exceptions.AMQPError, OSError) as error:
                if self.group.poll() is not None or time.monotonic() > deadline:
                    with open(f"{self.directory}/output") as output:
                        raise RuntimeError(f"RabbitMQ did not start: {error!r}\n{output.read()[-3000:]}") from error
                time.sleep(0.1)

    def kill(self):
        """Kills it with SIGKILL: the shell, Erlang and its helpers."""
        # Erlang's helpers are in sessions of their own, and end when their pipe to Erlang does.
        try:
            os.killpg(self.group.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.group.wait()
        self.group = None

    def process_id(self):
        """The process id of Erlang itself."""
        with open(f"{self.directory}/pid") as file:
            return int(file.read())

    def end(self):
        if self.group:
            self.kill()
        self.names.kill()
        self.names.wait()

    def control(self, *command):
        """What rabbitmqctl prints. It takes a second or two."""
        result = subprocess.run(
            [f"{PROGRAMS}/rabbitmqctl", "--quiet", *command], env=self.environment, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=120)
        if result.returncode != 0:
            raise RuntimeError(f"rabbitmqctl {command}: {result.stdout}{result.stderr}")
        return result.stdout

    def counts(self, queue):
        """The messages of a queue that are ready, and those that are not acknowledged; and its consumers."""
        rows = json.loads(self.control(
            "list_queues", "name", "messages_ready", "messages_unacknowledged", "consumers", "--formatter", "json"))
        return next(((row["messages_ready"], row["messages_unacknowledged"], row["consumers"])
                     for row in rows if row["name"] == queue), None)

    def channel(self):
        """A channel of a new connection, with publisher confirms. Close it with `channel.connection.close()`."""
        channel = pika.BlockingConnection(self.parameters).channel()
        channel.confirm_delivery()
        return channel

    def declare(self, *queues, **options):
        channel = self.channel()
        for queue in queues:
            channel.queue_declare(queue, **{"durable": True, **options})
        channel.connection.close()

    def publish(self, queue, *bodies, **properties):
        """Publishes messages, and waits for each to be confirmed."""
        channel = self.channel()
        for body in bodies:
            channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2, **properties))
        channel.connection.close()

    def ready(self, queue):
        """The messages that a queue has ready. Cheaper than `counts`."""
        channel = self.channel()
        count = channel.queue_declare(queue, passive=True).method.message_count
        channel.connection.close()
        return count

    def publish_many(self, queue, messages):
        """Publishes (body, properties) pairs, and waits until all are confirmed."""
        publisher = Publisher(self.parameters, queue, messages)
        publisher.join()


class Publisher:
    """A thread that publishes with confirms. It reconnects, and publishes again what was not confirmed."""

    WINDOW = 500

    def __init__(self, parameters, queue, messages, limit=None):
        self.parameters, self.queue = parameters, queue
        self.waiting = list(reversed(messages))
        # What is not confirmed yet, by delivery tag.
        self.open = {}
        self.confirmed = 0
        # How many may be published so far; None: all.
        self.limit = limit
        self.published = 0
        # How many were published again, and how many RabbitMQ has dropped because it had no such queue.
        self.again = 0
        self.returned = 0
        self.connections = 0
        self.total = len(messages)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def join(self, seconds=600):
        self.thread.join(seconds)
        if self.thread.is_alive():
            raise RuntimeError(f"only {self.confirmed} of {self.total} messages were confirmed")

    def run(self):
        while self.confirmed < self.total:
            connection = pika.SelectConnection(
                self.parameters, on_open_callback=self.opened, on_open_error_callback=self.closed,
                on_close_callback=self.closed)
            connection.ioloop.start()
            time.sleep(0.2)

    def opened(self, connection):
        self.connections += 1
        connection.channel(on_open_callback=self.channel_opened)

    def channel_opened(self, channel):
        self.tag = 0
        channel.confirm_delivery(lambda frame: self.confirm(channel, frame.method))
        channel.add_on_return_callback(self.take_back)
        self.pump(channel)
        self.tick(channel)

    def tick(self, channel):
        """The limit may have grown."""
        if channel.is_open:
            self.pump(channel)
            channel.connection.ioloop.call_later(0.05, lambda: self.tick(channel))

    def pump(self, channel):
        while self.waiting and len(self.open) < self.WINDOW and channel.is_open:
            if self.limit is not None and self.confirmed + len(self.open) >= self.limit:
                break
            message = self.waiting.pop()
            self.tag += 1
            self.open[self.tag] = message
            body, properties = message
            self.published += 1
            channel.basic_publish("", self.queue, body, properties, mandatory=True)

    def take_back(self, *message):
        self.returned += 1

    def confirm(self, channel, method):
        tags = [tag for tag in self.open if tag <= method.delivery_tag] if method.multiple else [method.delivery_tag]
        for tag in tags:
            message = self.open.pop(tag, None)
            if message and isinstance(method, pika.spec.Basic.Nack):
                self.waiting.append(message)
            elif message:
                self.confirmed += 1
        if self.confirmed == self.total:
            channel.connection.close()
        else:
            self.pump(channel)

    def closed(self, connection, reason):
        self.again += len(self.open)
        self.waiting += reversed(self.open.values())
        self.open = {}
        connection.ioloop.stop()


class Relay:
    """A place in front of the node that can be absent, and that counts its connections."""

    def __init__(self, node, is_there=True):
        self.node = node
        self.port = free_port()
        self.pairs = []
        self.accepted = 0
        self.listener = None
        if is_there:
            self.start()

    def start(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self.node.port))
            except OSError:
                return
            self.accepted += 1
            self.pairs.append((client, server))
            for source, destination in ((client, server), (server, client)):
                threading.Thread(target=self.move, args=(source, destination), daemon=True).start()

    @staticmethod
    def move(source, destination):
        try:
            while data := source.recv(65536):
                destination.sendall(data)
        except OSError:
            pass
        for end in (source, destination):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def stop(self):
        """Ends its connections, and accepts no more."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.listener = None
        self.cut()

    def cut(self):
        for pair in self.pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.pairs = []
