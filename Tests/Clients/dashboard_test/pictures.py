"""Pictures of the pages, as they are on a busy server."""

import os

from browser import DESKTOP, PHONE, Error, View, check

LOOKS = {
    "light": {"viewport": DESKTOP, "color_scheme": "light"},
    "dark": {"viewport": DESKTOP, "color_scheme": "dark"},
    "phone": {"viewport": PHONE, "color_scheme": "light", "device_scale_factor": 2, "is_mobile": True, "has_touch": True},
}


def pages(world):
    """The places of the dashboard that are shown, by the names of their pictures."""
    return {
        "overview": "", "queues": "queues?prefix=", "queue": "queue/mail%2Feu%2Foutbound",
        "task": f"task/{world.marked['report']}", "dead": "dead", "workers": "workers",
    }


def take(browser, world, folder):
    os.makedirs(folder, exist_ok=True)
    for look, options in LOOKS.items():
        context = browser.context(**options)
        view = View(browser, world.emq, context=context)
        for name, path in pages(world).items():
            try:
                view.open(path)
            except (AssertionError, Error) as error:
                check(f"a picture of {name}, {look}", False, error)
            # Until what comes after the first figures is there too.
            view.page.wait_for_timeout(700)
            view.page.screenshot(path=f"{folder}/{name}-{look}.png")
        view.end(f"pictures, {look}")
        context.close()
    print(f"  pictures are in {folder}", flush=True)
