"""Tests/Clients/dashboard says what this is."""

import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import browser
import measure
import pictures
import scenes
import seed
import server


def arguments():
    """emq, the folder for pictures or None, and the names of the scenes to be run or None."""
    rest, names = sys.argv[1:], []
    while "--only" in rest:
        place = rest.index("--only")
        names += [name.replace(" ", "_") for name in rest[place + 1:place + 2]]
        del rest[place:place + 2]
    if not 1 <= len(rest) <= 2:
        sys.exit("usage: Tests/Clients/dashboard EMQ [PICTURES] [--only SCENE]...")
    return rest[0], rest[1] if len(rest) == 2 else None, names


def main():
    emq, folder, names = arguments()
    begin = time.monotonic()
    browser.failures_folder = os.path.join(os.path.dirname(sys.prefix), ".build-dashboard", "failures")
    chosen = lambda group: [scene for scene in group if not names or scene.__name__ in names]
    unknown = [name for name in names if name not in [scene.__name__ for scene in scenes.SMALL + scenes.LARGE]]
    if unknown:
        sys.exit(f"there is no scene {unknown[0]}")
    server.begin(emq)
    try:
        with browser.Browser() as chromium:
            small = chosen(scenes.SMALL)
            if small:
                emq = server.Emq("--push", "loopback")
                scenes.prepare(emq)
            # While the scenes run that have a server of their own, the large one is measured, without pages and with.
            if names:
                for scene in small:
                    browser.run(scene, chromium, emq)
            if not names or chosen(scenes.LARGE) or folder:
                world = seed.World(f"{server.work}/data").fill()
                traffic = seed.Traffic(world.emq)
                if not names:
                    measure.measure(chromium, world.emq, lambda scene: browser.run(scene, chromium, emq), small)
                for scene in chosen(scenes.LARGE):
                    browser.run(scene, chromium, world.emq, world)
                if folder:
                    pictures.take(chromium, world, folder)
                traffic.stop()
                world.end()
    finally:
        server.end()
    print(f"{browser.passed} checks passed, {browser.failed} failed in {time.monotonic() - begin:.0f} s")
    sys.exit(1 if browser.failed else 0)


main()
