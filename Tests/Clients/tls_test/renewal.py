"""A certificate that is replaced while clients work."""

import os
import shutil
import signal
import ssl
import threading
import time

from tls_test import peers
from tls_test.peers import Emq, check, client_context, eventually, get, part, pem, key, post, read_answers

RENEWALS = 20


def run():
    part(f"{RENEWALS} renewals under load")
    place = f"{peers.work}/renewed"
    os.mkdir(place)
    certificate, private = f"{place}/cert.pem", f"{place}/key.pem"

    def install(kind, kind_of_key=None):
        # As install(1) does it: a new file takes the place of the old one.
        for source, target in ((pem(kind), certificate), (key(kind_of_key or kind), private)):
            shutil.copy(source, target + ".new")
            os.rename(target + ".new", target)

    install("good")
    server = Emq("--tls-cert", certificate, "--tls-key", private, certificate=None)
    failures, counts, serials = [], [0, 0], set()
    is_over = threading.Event()

    def keep():
        connection = server.connect()
        while not is_over.is_set():
            connection.sendall(post("/enqueue/q", {"content": 1}))
            if '"id"' not in "".join(read_answers(connection)):
                raise OSError("no answer on a kept connection")
            counts[0] += 1

    def renew_often():
        context = client_context()
        session = None
        while not is_over.is_set():
            raw = server.raw()
            with context.wrap_socket(raw, server_hostname="localhost", session=session) as connection:
                connection.sendall(get())
                if '"status"' not in "".join(read_answers(connection)):
                    raise OSError("no answer on a new connection")
                serials.add(connection.getpeercert()["serialNumber"])
                # Half of the connections resume, with tickets of any age.
                session = connection.session if counts[1] % 2 else None
            counts[1] += 1

    def guarded(body):
        try:
            body()
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=guarded, args=(body,)) for body in (keep, keep, renew_often, renew_often)]
    for thread in threads:
        thread.start()
    loads = lambda: server.log().count("\n")
    for _ in range(RENEWALS):
        os.path.exists(pem("renewed")) and os.remove(pem("renewed"))
        before = loads()
        pem("renewed")
        install("renewed")
        server.process.send_signal(signal.SIGHUP)
        check("the log says so", eventually(lambda: loads() > before), server.log())
        count = counts[1]
        eventually(lambda: counts[1] > count + 5)
    is_over.set()
    for thread in threads:
        thread.join()
    print(f"  {counts[0]} requests on kept connections, {counts[1]} on new ones, {len(serials)} certificates seen")
    check("no request failed", not failures, failures)
    check("each certificate was used", len(serials) >= RENEWALS, len(serials))
    broken_renewals(server, install)
    server.stop()


def broken_renewals(server, install):
    part("renewals that go wrong")

    def serial():
        with server.connect() as connection:
            return connection.getpeercert()["serialNumber"]

    def renew(name, *kinds):
        old, log = serial(), server.log()
        install(*kinds)
        server.process.send_signal(signal.SIGHUP)
        line = eventually(lambda: server.log().removeprefix(log))
        print(f"  {name}: {line.strip()}")
        return old, line

    old, line = renew("a new certificate with an old key", "good", "renewed")
    check("the old pair stays", serial() == old, line)
    check("the log says why", "stay", line)
    old, line = renew("and its key", "good")
    check("the new pair is used", serial() != old, line)
    for name, damage in (("no certificate", b""), ("noise", os.urandom(1000)), ("half of one", None)):
        path = f"{peers.work}/renewed/cert.pem"
        with open(path, "rb") as file:
            whole = file.read()
        old, log = serial(), server.log()
        with open(path, "wb") as file:
            file.write(whole[:300] if damage is None else damage)
        server.process.send_signal(signal.SIGHUP)
        line = eventually(lambda: server.log().removeprefix(log))
        print(f"  {name}: {line.strip()}")
        check(f"{name}: the old pair stays", serial() == old, line)
        with open(path, "wb") as file:
            file.write(whole)
    os.remove(f"{peers.work}/renewed/key.pem")
    log = server.log()
    server.process.send_signal(signal.SIGHUP)
    check("no key", "key.pem", eventually(lambda: server.log().removeprefix(log)))
    check("emq still works", server.works(), server.log())
    install("good")
