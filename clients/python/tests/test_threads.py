"""One client for many threads, forked processes and interrupted programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from core import ScriptedServer, answer, eventually

import emq
from emq.testing import Server


def test_threads_share_a_client(shared_server: Server, queue: str) -> None:
    with emq.Client(shared_server.url, connections=8) as client, ThreadPoolExecutor(32) as pool:
        added = list(pool.map(lambda index: client.enqueue(queue, index), range(200)))
        assert len({task.id for task in added}) == 200
        seen: list[int] = []

        def work(_: int) -> None:
            for task in client.tasks(queue, max=3, stop=lambda: len(seen) >= 200):
                with task:
                    seen.append(task.content)

        # More loops than waits may have connections.
        list(pool.map(work, range(12)))
        assert sorted(seen) == list(range(200))
        assert client.stats(queue)["totals"]["acked"] == 200
        assert client.all_stats()["connections"] < 40


def test_waits_leave_connections_for_others(make: Any, shared_server: Server, queue: str) -> None:
    client, observer = make(shared_server.url, connections=4), make(shared_server.url)
    found: list[emq.Task] = []
    waits = [threading.Thread(target=lambda: found.extend(client.wait(queue, 30))) for _ in range(6)]
    for wait in waits:
        wait.start()
    eventually(lambda: observer.stats(queue)["waiters"] == 3)
    client.enqueue_many(queue, [{}] * 6)
    for wait in waits:
        wait.join()
    assert len({task.id for task in found}) == 6
    with ScriptedServer(ScriptedServer.SILENCE) as server:
        client = make(server.url, connections=1, timeout=0.3, tries=1)
        wait = threading.Thread(target=lambda: pytest.raises(emq.ClientClosed, client.wait, "q", 20))
        wait.start()
        eventually(lambda: server.requests)
        with pytest.raises(emq.Timeout, match="connections"):
            client.stats("q")
        client.close()
        wait.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_process_has_connections_of_its_own(shared_server: Server, queue: str) -> None:
    client = emq.Client(shared_server.url)
    client.enqueue_many(queue, [{"content": "parent", "lease": 0.5}, {"content": "child"}])
    [task] = client.wait(queue)
    with task:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                [own] = client.wait(queue, 10)
                with own:
                    own.result = [client.enqueue(queue, f"by the child {index}").id for index in range(20)]
                # The parent's task is the parent's, also if the child leaves its body.
                task.__exit__(None, None, None)
                status = 0
            finally:
                os._exit(status)
        for index in range(20):
            assert client.task(client.enqueue(queue, index).id)["content"] == index
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.task(task.id)["state"] == "dispatched"
        # The keeper goes on in the parent.
        time.sleep(1)
    assert client.stats(queue)["totals"]["acked"] == 2 and not task.lost
    assert client.stats(queue)["ready"] == 40
    client.close()


def test_a_lock_that_was_held_during_a_fork_stops_nobody(shared_server: Server, queue: str) -> None:
    code = f"""
import os, threading, time, emq
client = emq.Client({shared_server.url!r})
stop = False
def work():
    while not stop:
        client.enqueue({queue!r})
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        client.enqueue({queue!r} + "/children")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop = True
for thread in threads: thread.join()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)
    with emq.Client(shared_server.url) as client:
        assert client.stats(queue + "/children")["ready"] == 20


@pytest.mark.parametrize("moment", ["waiting", "working"])
def test_ctrl_c_gives_the_task_back(shared_server: Server, queue: str, moment: str) -> None:
    code = f"""
import time, emq
with emq.Client({shared_server.url!r}) as client:
    for task in client.tasks({queue!r}):
        with task:
            print("working", flush=True)
            time.sleep(60)
"""
    with emq.Client(shared_server.url) as client:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        if moment == "working":
            client.enqueue(queue, max_retries=0)
            assert process.stdout.readline() == "working\n"
        else:
            eventually(lambda: client.stats(queue)["waiters"])
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == -signal.SIGINT and errors.rstrip().endswith("KeyboardInterrupt")
        if moment == "waiting":
            client.enqueue(queue, max_retries=0)
        assert client.stats(queue)["ready"] == 1


def test_exceptions_of_signals_lose_no_task(shared_server: Server, queue: str) -> None:
    code = f"""
import random, signal, sys, time, emq
class Interruption(BaseException): pass
def interrupt(*_): raise Interruption
signal.signal(signal.SIGALRM, interrupt)
seed = random.randrange(1 << 32)
random.seed(seed)
client, observer = emq.Client(sys.argv[1], connections=1000), emq.Client(sys.argv[1])
interrupted = lost = 0
for _ in range(600):
    observer.enqueue({queue!r})
    tasks = None
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00002, 0.001))
        tasks = client.wait({queue!r}, 5)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Interruption:
        pass
    signal.setitimer(signal.ITIMER_REAL, 0)
    if tasks is None:
        interrupted += 1
        lost += observer.stats({queue!r})["dispatched"]
    observer.purge({queue!r}, state="all")
print(seed, interrupted, lost)
"""
    run = subprocess.run(
        [sys.executable, "-c", code, shared_server.url], check=True, timeout=120, stdout=subprocess.PIPE, text=True
    )
    seed, interrupted, lost = map(int, run.stdout.split())
    # What remains are the few steps from the client to the program's own variable.
    assert interrupted > 20 and lost <= interrupted / 8, f"with the seed {seed}: {lost} of {interrupted}"


def test_an_interrupted_wait_gives_back_what_was_on_its_way(shared_server: Server, queue: str) -> None:
    # The signal comes while half of the answer is here.
    code = f"""
import signal, emq, sys
client = emq.Client(sys.argv[1])
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    client.wait({queue!r}, 30)
except KeyboardInterrupt:
    print("interrupted")
"""
    with emq.Client(shared_server.url) as client:
        added = client.enqueue(queue)
        [task] = client.wait(queue)
        body = (
            f'[{{"id":"{task.id}","queue":"q","content":1,"attempt":1,"retry":300,"receipt":"{task.receipt}"}}]'
        )
        head, _, rest = answer(200, body).partition(b"\r\n\r\n")

        class Slow(ScriptedServer):
            def _do(self, connection: Any, request: bytes, action: Any) -> bool:
                if action == "pause":
                    time.sleep(1)
                    return True
                return super()._do(connection, request, action)

        script = (head + b"\r\n\r\n" + rest[:10], "pause", rest[10:])
        with Slow(script, target=shared_server.port) as server:
            out = subprocess.run(
                [sys.executable, "-c", code, server.url], check=True, timeout=60, stdout=subprocess.PIPE, text=True
            )
            assert out.stdout == "interrupted\n"
        assert client.task(added.id)["state"] == "ready"


def test_clients_and_threads_end_when_nobody_needs_them(shared_server: Server, queue: str) -> None:
    import gc
    import weakref

    client = emq.Client(shared_server.url)
    client.enqueue(queue)
    with client.wait(queue)[0]:
        pass
    before = client.all_stats()["connections"]
    reference = weakref.ref(client)
    del client
    gc.collect()
    # The keeper lives for a few seconds without tasks, in case that another one comes.
    eventually(lambda: (gc.collect(), reference() is None)[1], "the end of the client")
    with emq.Client(shared_server.url) as other:
        eventually(lambda: other.all_stats()["connections"] <= before)


def test_a_program_that_closes_nothing_is_not_warned() -> None:
    code = """
import os, emq
from emq.testing import Server

server = Server().start()
os.environ["EMQ_URL"] = server.url
client, app, forgotten = emq.Client(), emq.App(), [emq.Client()]
for each in (client, app.client, *forgotten):
    each.enqueue("greetings")
del each
forgotten.clear()
app.close()
app.client.enqueue("greetings")
assert client.stats("greetings")["ready"] == 4
server.stop()
"""
    run = subprocess.run([sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
