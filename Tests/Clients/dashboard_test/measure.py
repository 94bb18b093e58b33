"""What open pages cost the server."""

import time

from browser import Error, View, check

PAGES = 10
SECONDS = 20
# In percent of a processor. More than wanted is reported, and more than allowed is a failure.
WANTED, ALLOWED = 1, 3


def measure(browser, server, run, scenes):
    """Measures the server without pages and with them. Meanwhile, `run` runs the scenes, which use other servers."""
    rest = list(scenes)

    def percent(scenes_left):
        begin, before = time.monotonic(), server.cpu_seconds()
        while time.monotonic() < begin + SECONDS:
            if len(rest) > scenes_left:
                run(rest.pop(0))
            else:
                time.sleep(0.5)
        return 100 * (server.cpu_seconds() - before) / (time.monotonic() - begin)

    # A part of the scenes is for the time with pages.
    without = percent(len(rest) * 2 // 3)
    # Each is another user's: a browser opens no more than six connections to a server for all its tabs.
    views = []
    for path in ("", "queues", "queues?flat=1&sort=ready", "queues?prefix=tenants/", "queue/mail%2Feu%2Foutbound",
                 "", "queues?flat=1", "dead", "workers", "queue/orders%2Fpayments")[:PAGES]:
        views.append(View(browser, server))
        try:
            views[-1].open(path)
        except (AssertionError, Error) as error:
            check(f"{path or 'the overview'} opens beside others", False, error)
    time.sleep(2)
    with_pages = percent(len(rest) // 2)
    for view in views:
        view.end("open pages")
    cost = with_pages - without
    print(f"  {PAGES} open pages on 10,000 queues cost {cost:.2f} % of a processor (from {without:.2f} % to "
          f"{with_pages:.2f} %); wanted: below {WANTED} %", flush=True)
    check("open pages cost little", cost < ALLOWED, f"{cost:.2f} % of a processor")
    for scene in rest:
        run(scene)
