"""A server with 10,000 queues and a million tasks."""

import re
import time

from browser import PHONE, check, expect
from pictures import pages
from scenes.figures import shown_number


def scroll_ten_thousand_queues(site):
    view = site.view("queues?flat=1")
    count = site.server.call("GET", "/stats/?n=1&offset=0")["count"]
    check("there are 10,000 queues", count >= 10_000, count)
    expect(view.page.locator("main table")).to_have_attribute("aria-rowcount", str(count + 1))
    begin = time.monotonic()
    for part in 0.25, 0.5, 0.75, 1:
        view.page.evaluate("part => scrollTo(0, part * document.documentElement.scrollHeight)", part)
        view.until(lambda page: page.evaluate("""part => {
            const rows = [...document.querySelectorAll('main tbody tr')].filter((row) => {
                const box = row.getBoundingClientRect()
                return box.bottom > innerHeight / 3 && box.top < innerHeight * 2 / 3
            })
            return rows.length > 3 && rows.every((row) => row.querySelector('th a'))
        }""", part), f"rows are there at {part}")
    check("scrolling is quick", time.monotonic() - begin < 12, time.monotonic() - begin)
    names = site.server.call("GET", "/queues/")
    last = view.page.locator("main tbody tr th a").last.inner_text()
    check("the last row is the last queue", last.replace("\u2068", "") in names[-40:], (last, names[-3:]))
    rows = view.page.locator("main tbody tr").count()
    check("the page holds few rows", rows < 300, rows)
    view.page.evaluate("scrollTo(0, 0)")
    view.until(lambda _: view.row(names[1]).count() > 0, "the top is there again")


def walk_the_tree(site):
    view = site.view("queues")
    for name in "tenants/", "mail/":
        expect(view.row(name)).to_be_visible()
    check("the tree is short", view.page.locator("main tbody tr").count() < 60)
    queues = len(site.server.call("GET", "/queues/?prefix=tenants/"))
    got = shown_number(re.search(r"([\d,]+) queues", view.row("tenants/").inner_text())[0])
    check("a group says how many queues it has", abs(got - queues) < 5, (got, queues))
    view.row("mail/").get_by_role("link").click()
    view.until(lambda _: view.names() == ["eu/", "us/"], "the branches of mail/")


def see_a_busy_server(site):
    """Figures move, and the page keeps up with them."""
    view = site.view()
    page = view.page
    seen = set()
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        seen.add(page.locator("main .tiles").inner_text())
        page.wait_for_timeout(250)
    check("the figures move", len(seen) >= 2, seen)
    # How long the page itself is busy, in parts of a second.
    client = page.context.new_cdp_session(page)
    client.send("Performance.enable")
    read = lambda: {metric["name"]: metric["value"] for metric in client.send("Performance.getMetrics")["metrics"]}
    before = read()
    page.wait_for_timeout(3000)
    after = read()
    share = (after["TaskDuration"] - before["TaskDuration"]) / 3
    print(f"  an open overview keeps the browser's thread busy for {100 * share:.1f} % of the time", flush=True)
    check("the page itself is idle most of the time", share < 0.35, share)
    growth = after["Nodes"] - before["Nodes"]
    check("no elements are left behind", growth < 20_000, growth)


def use_assistive_technology(site):
    for scheme in "light", "dark":
        view = site.view(None, color_scheme=scheme)
        for name, path in pages(site.world).items():
            view.open(path)
            view.page.wait_for_timeout(300)
            view.axe(f"{name} ({scheme})")
            check(f"{name} has one first heading", view.page.locator("h1").count() == 1, view.page.locator("h1").all_inner_texts())
        view.open("queues?flat=1")
        view.page.get_by_role("checkbox").nth(1).check()
        view.axe(f"selected queues ({scheme})")
        view.page.keyboard.press("Escape")
        view.open(f"task/{site.world.marked['hostile dead']}")
        view.axe(f"a hostile task ({scheme})")
        view.page.evaluate("document.activeElement.blur()")
        view.page.keyboard.press("?")
        view.opened_dialog()
        view.axe(f"keys ({scheme})")


def use_a_phone(site):
    view = site.view(None, viewport=PHONE, is_mobile=True, has_touch=True, device_scale_factor=2)
    for name, path in {**pages(site.world), "flat": "queues?flat=1&sort=ready",
                       "hostile": f"task/{site.world.marked['hostile dead']}"}.items():
        view.open(path)
        view.page.wait_for_timeout(300)
        view.fits(f"{name} on a phone")
        # A short name in the way through the tree is as wide as it is.
        small = view.page.evaluate("""() => [...document.querySelectorAll('nav a, .top button, main button')].filter((element) => {
            const box = element.getBoundingClientRect()
            if (element.closest('thead') || box.width === 0 || box.top > innerHeight) return false
            return box.height < 24 || box.width < 24 && !element.closest('.crumbs')
        }).map((element) => element.outerHTML.slice(0, 80))""")
        check(f"{name}: a finger hits the buttons", not small, small[:4])
    view.open("queues")
    view.page.get_by_role("navigation", name="Pages").get_by_role("link", name="Workers").tap()
    view.until(lambda page: page.url.endswith("#/workers"), "the navigation works on a phone")
