"""Pictures are really made smaller, each in the end, although a worker is killed."""

import signal

from recipes_test.checks import eventually, expect, need
from recipes_test.document import Recipe
from recipes_test.peers import Emq


def run(program):
    need("convert", "identify")
    recipe = Recipe("Resize images")
    add, work = recipe.command("find").splitlines()
    with Emq(program) as emq:
        recipe.save(emq.folder)
        emq.ask("PUT", "/config/thumbnails", {"retry": 2})
        (emq.folder / "photos" / "it's a trip").mkdir(parents=True)
        pictures = {f"photos/{number}.jpg": ("1600x1200", "320 240") for number in range(8)}
        pictures["photos/it's a trip/$(high) one.jpg"] = ("300x600", "160 320")
        pictures["photos/it's a trip/small.jpg"] = ("100x80", "100 80")
        for path, (size, _) in pictures.items():
            emq.run(["convert", "-size", size, "gradient:red-blue", path])
        (emq.folder / "photos" / "notes.jpg").write_text("not a picture\n")

        emq.run(add)
        killed = emq.worker(work)
        eventually("the first thumbnail", lambda: any((emq.folder / "thumbnails").rglob("*.jpg")))
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        # Tasks of the worker that was killed come back after their lease; until then, the queue may look empty.
        eventually("the tasks of the killed worker come back", lambda: emq.stats("thumbnails")["dispatched"] == 0)
        emq.run(work)
        for path, (_, size) in pictures.items():
            expect(f"the size of {path}", size, emq.run(["identify", "-format", "%w %h", f"thumbnails/{path}"]))
        stats = emq.stats("thumbnails")
        expect("tasks left", (0, 0, 1), (stats["ready"], stats["dispatched"], stats["dead"]))
        [dead] = emq.get("/peek/thumbnails?state=dead")
        expect("the dead task", ("photos/notes.jpg", 1), (dead["content"], dead["attempt"]))
        expect("`emq peek` shows it", True, "photos/notes.jpg" in emq.run("emq peek thumbnails --state dead"))
