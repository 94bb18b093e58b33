"""Work is split, and its results come together in order."""

import signal

from recipes_test.checks import expect, holds, need
from recipes_test.document import Recipe
from recipes_test.peers import Emq


def run(program):
    need("jq")
    recipe = Recipe("Split work and collect the results")
    work, count = recipe.commands("emq work", "./count.sh")
    with Emq(program) as emq:
        recipe.save(emq.folder)
        (emq.folder / "texts").mkdir()
        for number in range(30):
            (emq.folder / "texts" / f"part {number}.txt").write_text("word " * number)
        worker = emq.worker(work)
        expect("the sum", str(sum(range(30))), emq.run(count).strip())
        expect("one task for each file", 30, emq.stats("words")["totals"]["enqueued"])
        emq.run("./count.sh texts/missing.txt 'texts/part 3.txt'", 1)
        holds("the error names the part", "no result of " in emq.errors, emq.errors)
        worker.send_signal(signal.SIGTERM)
        expect("the exit status of the worker", 0, worker.wait(60))
