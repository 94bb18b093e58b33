"""Committed rows become tasks, each once, whenever the relay, emq or the database dies."""

import contextlib
import glob
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from recipes_test.checks import Missing, eventually, expect, need
from recipes_test.document import Recipe
from recipes_test.peers import Emq

# Kills the relay, its parent, instead of deleting rows, while the file `kill` is there.
TRAP = """#!/bin/sh
case "$*" in *DELETE*) if rm "$TRAPS/kill" 2>/dev/null; then kill -9 $PPID; exit 1; fi ;; esac
exec {psql} "$@"
"""


class Database:
    """PostgreSQL in a temporary folder, at a Unix socket there, as a user without privileges."""

    def __init__(self):
        programs = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]))
        found = programs[-1] if programs else shutil.which("initdb")
        if not found:
            raise Missing("there is no initdb (postgresql)")
        self.programs = os.path.dirname(found)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="emq-postgres-"))
        self.user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        if self.user:
            shutil.chown(self.folder, "postgres", "postgres")
        self.folder.chmod(0o755)
        self.server = None

    def __enter__(self):
        options = ["-D", str(self.folder / "data"), "-A", "trust", "-U", "emq", "-E", "UTF8", "--no-locale", "-N"]
        done = subprocess.run(
            [f"{self.programs}/initdb", *options], cwd=self.folder, capture_output=True, text=True, **self.user)
        expect(f"initdb: {done.stderr}", 0, done.returncode)
        self.start()
        return self

    def start(self):
        settings = [f"unix_socket_directories={self.folder}", "listen_addresses=", "fsync=off"]
        self.log = (self.folder.with_suffix(".log")).open("ab")
        options = [part for each in settings for part in ("-c", each)]
        self.server = subprocess.Popen(
            [f"{self.programs}/postgres", "-D", str(self.folder / "data"), *options], cwd=self.folder,
            stdout=self.log, stderr=self.log, **self.user)

    def stop(self, how=signal.SIGQUIT):
        """Ends it; SIGQUIT is its immediate shutdown, after which it recovers as from a crash."""
        self.server.send_signal(how)
        self.server.wait()
        self.log.close()

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            self.folder.with_suffix(".log").unlink()


def run(program):
    need("psql")
    recipe = Recipe("An outbox in PostgreSQL")
    transaction = recipe.command("BEGIN;")
    with Database() as database, Emq(program) as emq:
        recipe.save(emq.folder)
        trap = emq.folder / "bin" / "psql"
        trap.write_text(TRAP.format(psql=shutil.which("psql")))
        trap.chmod(0o755)
        place = {"PGHOST": str(database.folder), "PGUSER": "emq", "PGDATABASE": "postgres", "TRAPS": str(emq.folder)}

        def sql(text, status=0):
            return emq.run(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", text], status, **place).strip()

        done = []

        def take():
            """Does all tasks that are there, as a worker would, and returns how many have been done by now."""
            tasks = emq.post("/wait/", {"queues": ["mail"], "max": 1000})
            emq.post("/ack/", {"ids": [task["receipt"] for task in tasks]})
            done.extend(task["content"] for task in tasks)
            return len(done)

        def relayed(count):
            eventually("an empty outbox", lambda: sql("SELECT count(*) FROM outbox") == "0")
            expect("tasks", count, take())

        eventually("PostgreSQL accepts clients", lambda: subprocess.run(
            ["psql", "-XAtqc", "SELECT 1"], env=emq.environment(**place), capture_output=True).returncode == 0)
        emq.run("psql -Xq -v ON_ERROR_STOP=1 -f outbox.sql", **place)
        sql("CREATE TABLE orders (id serial, customer text)")
        relay = emq.begin("exec ./relay.sh", **place)
        sql(transaction)
        relayed(1)
        sql(transaction.replace("COMMIT", "ROLLBACK"))
        # Texts that a careless shell would change, in more rows than a batch has.
        sql("INSERT INTO outbox (content) SELECT jsonb_build_object('n', n, 'text', E'|,\\t\\n''\"\\\\ ü $(x)') "
            "FROM generate_series(1, 250) AS n")
        relayed(251)

        # The relay dies between the two steps, and the tasks are done before another one enqueues them again.
        (emq.folder / "kill").touch()
        sql("INSERT INTO outbox (content) SELECT to_jsonb(n) FROM generate_series(1, 30) AS n")
        expect("the relay", -signal.SIGKILL, relay.wait(60))
        expect("rows that were enqueued and not deleted", "30", sql("SELECT count(*) FROM outbox"))
        expect("tasks", 281, take())
        relays = [emq.begin("exec ./relay.sh", **place) for _ in range(2)]
        relayed(281)

        # emq and the database die.
        emq.kill()
        sql("INSERT INTO outbox (content) SELECT to_jsonb(n) FROM generate_series(31, 60) AS n")
        emq.start()
        relayed(311)
        database.stop()
        database.start()
        eventually("PostgreSQL is back", lambda: subprocess.run(
            ["psql", "-XAtqc", "INSERT INTO outbox (content) VALUES ('\"last\"')"], env=emq.environment(**place),
            capture_output=True).returncode == 0)
        relayed(312)
        expect("the relays", [None, None], [each.poll() for each in relays])
        expect("the order's mail", "ann@example.org", done[0]["to"])
        expect("the text of a row", '|,\t\n\'"\\ ü $(x)', done[1]["text"])
        expect("rows in order", list(range(1, 251)), [content["n"] for content in done[1:251]])
        expect("the numbers", [*range(1, 31), *range(31, 61), "last"], done[251:])
