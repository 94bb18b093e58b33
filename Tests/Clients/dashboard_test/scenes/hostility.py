"""Hostile tasks change nothing, wherever they are shown."""

import hostile
import seed
from browser import check, expect
from server import quote

marked = {}
# What is outside of the boxes of hostile texts must be where it is without them.
LAYOUT = """() => ({
    injected: [...document.querySelectorAll('.injected, main img, main iframe, main script, main style, main object')].map((element) => element.outerHTML.slice(0, 100)),
    handlers: [...document.querySelectorAll('*')].flatMap((element) => [...element.attributes].filter(({ name }) => name.startsWith('on')).map(({ name }) => name)),
    polluted: ({}).polluted !== undefined,
    links: [...document.querySelectorAll('a')].map((element) => element.getAttribute('href') ?? '').filter((href) => !href.startsWith('#')),
    open: [...document.querySelectorAll('main *')].filter((element) => [...element.childNodes].some(
        (node) => node.nodeType === 3 && /[\\u202a-\\u202e\\u2066-\\u2069]/.test(node.data))
        && getComputedStyle(element).unicodeBidi !== 'isolate' && getComputedStyle(element).unicodeBidi !== 'isolate-override')
        .map((element) => element.outerHTML.slice(0, 100)),
    side: document.querySelector('nav').getBoundingClientRect().toJSON(),
})"""


def prepare(emq):
    seed.hostile_task(emq, marked)


def hostile_tasks_change_nothing(site):
    check_hostile(site, site.server, marked)


def check_hostile(site, emq, marked):
    view = site.view()
    wanted = view.page.evaluate(LAYOUT)["side"]
    places = {
        "": None, "queues?flat=1&sort=dead": "<img src=x", "dead": "<img class=injected", "workers": "<script",
        f"queue/{quote(hostile.QUEUE)}": "<img src=x", f"task/{marked['hostile ready']}": "javascript:alert(6)",
        f"task/{marked['hostile held']}": "<script class=injected>alert(10)", f"task/{marked['hostile dead']}": "</textarea>",
    }
    for path, text in places.items():
        view.open(path)
        view.page.wait_for_timeout(400)
        if text:
            # It is seen as what it is: text.
            expect(view.page.locator("main")).to_contain_text(text)
        look(view, path, wanted)
    view.page.keyboard.press("/")
    box = view.page.get_by_role("combobox")
    for text in "<img src=x", marked["hostile dead"]:
        box.fill(text)
        expect(view.page.get_by_role("option").first).to_be_visible()
        look(view, f"search for {text}", wanted)
    # In titles, dialogs and messages too.
    view.open(f"queue/{quote(hostile.QUEUE)}")
    view.button("Pause", view.page.locator("main")).first.click()
    view.until(lambda _: emq.call("GET", f"/stats/{quote(hostile.QUEUE)}")["paused"], "the queue with the hostile name is paused")
    look(view, "after a pause", wanted)
    view.button("Resume", view.page.locator("main")).first.click()
    view.until(lambda _: not emq.call("GET", f"/stats/{quote(hostile.QUEUE)}")["paused"], "and resumed")
    check("the title is plain", "\u202e" not in view.page.title(), ascii(view.page.title()))


def look(view, place, wanted):
    got = view.page.evaluate(LAYOUT)
    for name in "injected", "handlers", "links", "open":
        check(f"{place}: nothing hostile is {name}", not got[name], got[name][:5])
    check(f"{place}: no prototype has changed", not got["polluted"])
    moved = [name for name in ("left", "top", "width") if abs(got["side"][name] - wanted[name]) > 1]
    check(f"{place}: the navigation is where it was", not moved, (got["side"], wanted))
    view.fits(place or "overview")
