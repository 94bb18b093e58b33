"""The workers and producers in four languages do the same. Each language has a server of its own."""

import os
import signal
import threading

from recipes_test.checks import eventually, expect, holds, need
from recipes_test.document import Recipe
from recipes_test.peers import Emq, LossyProxy, Site

# The programs that a language needs, how to build what is to be run, and how to run a program.
LANGUAGES = {
    "javascript": ("JavaScript", ["node"], [], lambda name: ["node", f"{name}.mjs"]),
    "go": ("Go", ["go", "gofmt"], [
        "test -z \"$(gofmt -l .)\"", "go vet worker.go emq.go", "go build -o worker worker.go emq.go",
        "go build -o producer producer.go emq.go"], lambda name: [f"./{name}"]),
    "php": ("PHP", ["php"], [], lambda name: ["php", f"{name}.php"]),
    "ruby": ("Ruby", ["ruby"], [], lambda name: ["ruby", "-w", f"{name}.rb"]),
}


class Programs:
    """The worker and the producer of a language."""

    def __init__(self, emq, language):
        heading, programs, builds, self.command = LANGUAGES[language]
        need(*programs)
        self.emq = emq
        Recipe(heading).save(emq.folder)
        for build in builds:
            # Go compiles its library once, into the user's cache.
            emq.run(build, GO111MODULE="off", HOME=os.environ.get("HOME", str(emq.folder)))

    def produce(self, url, status=0, **environment):
        return self.emq.run(self.command("producer") + [url], status, **environment).strip()

    def work(self, **environment):
        return self.emq.begin(self.command("worker"), **environment)

    def stop(self, worker, name=signal.SIGTERM):
        """Sends a signal to the worker and all that it has started, as systemd and terminals do. Waits for its end."""
        os.killpg(worker.pid, name)
        expect(f"the exit status of the worker: {worker.log.read_text()}", 0, worker.wait(120))


def producing(emq, programs):
    """The producer enqueues once, whatever happens to the answer."""
    with Site() as site:
        identifier, _, text = programs.produce(f"{site.url}/new").partition(" ")
        expect("a new task", "is new", text)
        expect("the same again", f"{identifier} was there already", programs.produce(f"{site.url}/new"))
        expect("its content", f"{site.url}/new", emq.task(identifier)["content"])
        with LossyProxy(emq.port, 2) as proxy:
            text = programs.produce(f"{site.url}/lost", EMQ_URL=proxy.url)
            expect("answers that were not lost", 0, proxy.losses)
        expect("tasks after lost answers", 2, emq.stats("links")["totals"]["enqueued"])
        expect("the id after lost answers", text.split()[0], emq.get(f"/key/links?key={site.url}/lost")["id"])
        programs.produce("x" * 256, 1)
        holds("the error of a refused request says why", "key must have 1 to 255 bytes" in emq.errors, emq.errors)
        emq.post("/purge/links?state=all")


def working(emq, programs):
    """Tasks are done once each; failures are refused with their error, and tried again."""
    with Site() as site:
        worker = programs.work()
        emq.post("/enqueue/links", [{"content": f"{site.url}/{number}"} for number in range(25)])
        before = emq.stats("links")["totals"]
        eventually("25 links are checked", lambda: emq.stats("links")["totals"]["acked"] >= before["acked"] + 25)
        expect("checks of each link", sorted(f"/{number}" for number in range(25)), sorted(site.paths()))

        site.statuses = {"/flaky": [500, 503, 200], "/broken": [500]}
        flaky, broken, odd, long = emq.post("/enqueue/links", [
            {"content": f"{site.url}/flaky", "keep": 60}, {"content": f"{site.url}/broken", "max_retries": 2},
            {"content": {"not": "a URL"}, "max_retries": 0},
            # The error would be too long for emq, and may be cut within a character.
            {"content": "http://127.0.0.1:1/" + 9000 * "é", "max_retries": 0}])["ids"]
        eventually("a link is checked at last", lambda: emq.task(flaky)["state"] == "done")
        attempts = emq.task(flaky)["attempts"]
        expect("its outcomes", ["failed", "failed", "done"], [attempt["outcome"] for attempt in attempts])
        for attempt, status in zip(attempts, ("500", "503")):
            holds("an error has the status", status in attempt["error"], attempt)
        for identifier, part in ((broken, "500"), (odd, ""), (long, "")):
            task = eventually("a task is dead", lambda: (task := emq.task(identifier))["state"] == "dead" and task)
            holds("its error says why", part in task["error"] and task["error"], task)
        expect("tries of the broken link", 3, site.paths().count("/broken"))
        programs.stop(worker, signal.SIGINT)
        expect("tasks in hand", 0, emq.stats("links")["dispatched"])


def restarting(emq, programs):
    """The server is killed in the middle, and nothing is lost."""
    with Site() as site:
        gate = site.hold("/12")
        ids = emq.post("/enqueue/links", [{"content": f"{site.url}/{n}", "keep": 600} for n in range(40)])["ids"]
        worker = programs.work()
        eventually("the worker is in the middle", lambda: "/12" in site.paths())
        emq.kill()
        gate.set()
        produced = []
        producer = threading.Thread(target=lambda: produced.append(programs.produce(f"{site.url}/meanwhile")))
        producer.start()
        eventually("the worker sees that the server is away", lambda: "/wait/" in worker.log.read_text())
        expect("the worker", None, worker.poll())
        emq.start()
        producer.join(120)
        holds("a task is enqueued once the server is back", produced and produced[0].endswith("is new"), produced)
        eventually("all links are checked", lambda: all(emq.task(identifier)["state"] == "done" for identifier in ids))
        eventually("so is the last one", lambda: "/meanwhile" in site.paths())
        paths = site.paths()
        expect("links that were not checked", set(), {f"/{number}" for number in range(40)} - set(paths))
        # After a crash, the last dispatches may be unknown: the tasks of two waits, then, come twice.
        holds("few links are checked twice", len(paths) - len(set(paths)) <= 20, paths)
        programs.stop(worker)


def stopping(emq, programs):
    """Leases go on during long work. A signal lets the task in hand end, and gives back the others."""
    with Site() as site:
        gate = site.hold("/slow")
        worker = programs.work()
        eventually("the worker waits", lambda: emq.stats("links")["waiters"] == 1)
        slow, *others = emq.post("/enqueue/links", [
            {"content": f"{site.url}/{name}", "keep": 60} for name in ("slow", "second", "third")])["ids"]
        eventually("the slow work has begun", lambda: "/slow" in site.paths())
        ends = {identifier: emq.task(identifier)["lease_end"] for identifier in (slow, *others)}
        eventually("all leases go on", lambda: all(emq.task(each)["lease_end"] > end for each, end in ends.items()))
        os.killpg(worker.pid, signal.SIGTERM)
        # Others may see the signal only after the end of the task. PHP sees it first, since it was there first.
        if programs.command("worker")[0] != "php":
            eventually("the worker says so", lambda: "stopping" in worker.log.read_text())
        expect("the slow task", "dispatched", emq.task(slow)["state"])
        gate.set()
        expect(f"the exit status: {worker.log.read_text()}", 0, worker.wait(120))
        task = emq.task(slow)
        expect("the slow task", ("done", 1), (task["state"], task["attempt"]))
        for each in others:
            task = emq.task(each)
            expect("a task that was not begun", ("ready", 0), (task["state"], task["retries"]))
            expect("its outcomes", ["released"], [attempt["outcome"] for attempt in task["attempts"]])
        expect("links that were checked", ["/slow"], site.paths())
        emq.post("/purge/links?state=all")
        idle = programs.work()
        eventually("the next worker waits", lambda: emq.stats("links")["waiters"] == 1)
        # It has nothing to report, so it needs no server to end.
        emq.kill()
        programs.stop(idle)


def refusing(emq, programs):
    """The programs send their token, and end when the server refuses them."""
    with Site() as site:
        emq.require_tokens(links={"allow": ["enqueue", "work"], "queues": ["links"]})
        programs.produce(f"{site.url}/allowed", EMQ_TOKEN="links")
        programs.produce(f"{site.url}/refused", 1, EMQ_TOKEN="wrong")
        holds("the error says why", "token" in emq.errors, emq.errors)
        programs.work(EMQ_TOKEN="links")
        eventually("the link is checked", lambda: site.paths() == ["/allowed"])
        refused = programs.work()
        expect("the exit status of a worker without a token", 1, refused.wait(120))


def run(program, language):
    errors = []

    def part(*steps):
        try:
            with Emq(program) as emq:
                programs = Programs(emq, language)
                for step in steps:
                    step(emq, programs)
        except BaseException as error:
            errors.append(error)

    # The second waits for most of its time.
    lists = (producing, working, restarting, refusing), (stopping,)
    threads = [threading.Thread(target=part, args=steps) for steps in lists]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


PARTS = {language: lambda emq, language=language: run(emq, language) for language in LANGUAGES}
