"""What can be wrong, what emq says about it, and that it continues when it is mended."""

import time

import pika

from rabbitmq_test.node import PASSWORD, USER, Relay
from rabbitmq_test.program import Emq, directory
from tls_test.peers import check, eventually, part, pem


def run(node):
    mended_later(node)
    certificates(node)
    absent_broker(node)
    ended_connections(node)


def erlang(node, *calls):
    """Does several things at once; each rabbitmqctl takes a second or two."""
    node.control("eval", ", ".join([*calls, "ok."]))


def user_call(function, *texts):
    arguments = ", ".join(f'<<"{text}">>' for text in (*texts, "test"))
    return f"rabbit_auth_backend_internal:{function}({arguments})"


def add_user(name, password):
    return user_call("add_user", name, password)


def permit(name, read, vhost="/", configure=""):
    return user_call("set_permissions", name, vhost, configure, ".*", read)


def mended_later(node):
    part("a configuration that is wrong, and mended while emq runs")
    # Each source has a queue of its own, with a message that comes when it is mended.
    queues = ["password", "port", "permission", "exclusive", "user"]
    node.declare(*queues)
    for queue in queues:
        node.publish(queue, queue)
    erlang(
        node, add_user("forgetful", "another"), permit("forgetful", ".*"), add_user("blind", PASSWORD),
        permit("blind", "^$"))
    # Somebody else consumes a queue exclusively, and another queue belongs to a connection.
    owner = pika.BlockingConnection(node.parameters)
    channel = owner.channel()
    channel.queue_declare("locked", exclusive=True)
    channel.basic_consume("exclusive", lambda *_: None, exclusive=True)
    owner.process_data_events(0.1)
    relay = Relay(node, is_there=False)

    server = Emq(data=directory())
    server.add("password", node.url(user="forgetful", password="wrong-horse"))
    server.add("user", node.url(user="nobody"))
    server.add("vhost", node.url(vhost="/elsewhere"))
    server.add("port", node.url(relay.port))
    server.add("host", node.url(host="no-such-host.invalid"))
    server.add("permission", node.url(user="blind"))
    server.add("queue", node.url(), queue="missing")
    server.add("exclusive", node.url())
    server.add("locked", node.url())
    other = Emq()
    server.add("not-amqp", node.url(other.port))
    server.until_error("password", "403", "forgetful")
    server.until_error("user", "403", "nobody")
    server.until_error("vhost", "elsewhere")
    server.until_error("port", f"127.0.0.1:{relay.port}", "efused")
    server.until_error("host", "no-such-host.invalid")
    server.until_error("permission", "403", "permission")
    server.until_error("queue", "404", "missing")
    server.until_error("exclusive", "403", "exclusive")
    server.until_error("locked", "405", "locked")
    server.until_error("not-amqp", f"127.0.0.1:{other.port}")
    for name in ("password", "user", "vhost", "port", "host", "permission", "queue", "exclusive", "locked", "not-amqp"):
        view = server.source(name)
        check(f"the state of {name}", view.get("state") in ("retrying", "connecting"), view)
        check(f"{name} says when", abs(view.get("last_error_at", 0) - time.time()) < 120, view)
        check(f"the log has {name}", name, server.log())
    shown = f"{server.call('GET', '/stats/')}{server.call('GET', '/source/')}{server.call('GET', '/source/password')}"
    for secret in (PASSWORD, "wrong-horse"):
        check("passwords are not shown", secret not in shown, shown)
    check("they are masked", "***", server.call("GET", "/source/password"))
    status, answer = server.call("GET", "/healthz")
    check("emq itself is well", status == 200, answer)

    erlang(
        node, user_call("change_password", "forgetful", "wrong-horse"), 'rabbit_vhost:add(<<"elsewhere">>, <<"test">>)',
        permit(USER, ".*", "elsewhere", ".*"), permit("blind", ".*"), add_user("nobody", PASSWORD),
        permit("nobody", ".*"))
    owner.close()
    relay.start()
    parameters = node.parameters
    parameters.virtual_host = "elsewhere"
    connection = pika.BlockingConnection(parameters)
    connection.channel().queue_declare("vhost", durable=True)
    connection.channel().basic_publish("", "vhost", b"vhost")
    connection.close()
    node.declare("missing")
    node.publish("missing", b"queue")
    for name in ("password", "user", "vhost", "port", "permission", "exclusive"):
        server.until(name, "consuming", 45)
        check(f"the message of {name}", name, server.take_one(name)["content"])
    server.until("queue", "consuming", 45)
    server.until_tasks("missing", 1)
    server.add("host", node.url(host="localhost"), wanted=200, queue="missing")
    server.until("host", "consuming")
    repeated = server.log().count("no-such-host.invalid")
    check("repeated errors are not logged each time", repeated <= 3, f"{repeated}: {server.log()}")
    server.stop()
    other.stop()


def certificates(node):
    part("certificates")
    node.declare("tls")
    url = lambda host: node.url(node.secure_port, host=host, scheme="amqps")
    stranger, friend = Emq(), Emq("--tls-ca", pem("authority"))
    stranger.add("tls", url("127.0.0.1"))
    friend.add("tls", url("127.0.0.1"))
    friend.add("wrong-name", url("localhost"), queue="tls", into="wrong-name")
    friend.add("plain-port", node.url(node.port, scheme="amqps"), queue="tls", into="plain-port")
    friend.add("secure-port", node.url(node.secure_port), queue="tls", into="secure-port")
    friend.until("tls", "consuming")
    stranger.until_error("tls", "CN=emq test")
    friend.until_error("wrong-name", "not for localhost")
    friend.until_error("plain-port", "TLS")
    friend.until_error("secure-port", f"127.0.0.1:{node.secure_port}")
    node.publish("tls", b"good")
    check("a message over TLS", "good", friend.take_one("tls")["content"])
    stranger.stop()
    friend.stop()


def absent_broker(node):
    part("a broker that is absent when emq starts")
    relay = Relay(node, is_there=False)
    file = f"{node.directory}/absent.ini"
    with open(file, "w") as ini:
        ini.write(f"server = {node.url(relay.port)}\n[late]\n[later]\n")
    server = Emq("--taskqueue", file, push=None)
    server.until_error("late", "efused")
    relay.start()
    for name in ("late", "later"):
        server.until(name, "consuming", 40)
    check("the log says that it consumes", "late", server.log())
    server.stop()
    relay.stop()


def ended_connections(node):
    part("connections that end, and a broker that blocks publishers")
    node.declare("ends")
    relay = Relay(node)
    server = Emq(data=directory())
    server.add("ends", node.url(relay.port), prefetch=10)
    server.until("ends", "consuming")
    node.control("close_all_connections", "closed for a test")
    server.until_error("ends", "320", "closed for a test")
    server.until("ends", "consuming", 40)
    for number in range(3):
        relay.cut()
        # With an id, because its acknowledgement may be lost.
        node.publish("ends", str(number), message_id=f"ends-{number}")
        server.until_tasks("ends", number + 1, 40)
    # RabbitMQ closes a channel on which messages stay without an acknowledgement for too long.
    node.control("eval", "application:set_env(rabbit, consumer_timeout, 1000), "
                 "application:set_env(rabbit, channel_tick_interval, 500), ok.")
    node.declare("patient")
    server.add("patient", node.url())
    server.until("patient", "consuming")
    server.call("POST", "/pause/patient")
    node.publish("patient", *map(str, range(10)))
    eventually(lambda: node.counts("patient") == (10, 0, 0))
    check("RabbitMQ closed the channel", node.counts("patient") == (10, 0, 0), node.counts("patient"))
    node.control("eval", "application:set_env(rabbit, consumer_timeout, 1800000), "
                 "application:set_env(rabbit, channel_tick_interval, 60000), ok.")
    # The messages that emq holds have gone back. They must not become tasks now, because they come again.
    server.call("POST", "/resume/patient")
    server.until_tasks("patient", 10, 40)
    check("the log says why", "406 PRECONDITION_FAILED", server.log())
    server.take("patient", 10)
    # An emq that publishes nothing is not blocked.
    node.control("eval", "vm_memory_monitor:set_vm_memory_high_watermark(0.0001), ok.")
    try:
        server.until("ends", "consuming", 40)
        server.add("blocked", node.url(), queue="ends", into="blocked")
        server.until("blocked", "consuming")
    finally:
        node.control("eval", "vm_memory_monitor:set_vm_memory_high_watermark(0.4), ok.")
    node.publish("ends", "3")
    eventually(lambda: server.tasks("ends") + server.tasks("blocked") == 4)
    check("a message afterwards", server.tasks("ends") + server.tasks("blocked") == 4, "")
    server.stop()
    relay.stop()
