"""The overview."""

import re

from browser import check, expect


def shown_number(text):
    """The number in a text such as "Ready 1,234"."""
    found = re.search(r"\d[\d,]*", text)
    return int(found[0].replace(",", "")) if found else None


def overview_shows_what_stats_says(site):
    emq = site.server
    emq.enqueue_many("overview/a", [{"content": number} for number in range(1234)])
    emq.enqueue_many("overview/b", [{"delay": 3600}] * 17)
    emq.enqueue_many("overview/c", [{"max_retries": 0}] * 5)
    taken = emq.take("overview/c", count=5, retry=3600)
    emq.call("POST", "/nak/", {"ids": [task["receipt"] for task in taken[:3]], "error": "no"})
    view = site.view()
    view.page.wait_for_timeout(1200)
    for name, label in ("ready", "Ready"), ("delayed", "Delayed"), ("dispatched", "Running"), ("dead", "Dead"):
        states = emq.call("GET", "/stats/?n=1")["states"]
        tile = view.page.locator("main").get_by_role("link", name=re.compile(f"^{label}"))
        view.until(lambda _: shown_number(tile.first.inner_text()) == states[name],
                   f"the overview shows {states[name]} tasks that are {name}")
    # What happens while the page is open is seen without a click.
    before = emq.call("GET", "/stats/?n=1")["states"]["ready"]
    emq.enqueue_many("overview/a", [{}] * 100)
    tile = view.page.locator("main").get_by_role("link", name=re.compile("^Ready")).first
    view.until(lambda _: shown_number(tile.inner_text()) == before + 100, "the overview shows new tasks")
    server = emq.call("GET", "/stats/?n=1")["server"]
    check("the overview shows the version", server["version"] in view.text(), view.text())
    check("it shows no error", "undefined" not in view.text() and "NaN" not in view.text(), view.text())
    check("the charts are described", view.page.get_by_role("img", name=re.compile("Tasks a second")).count() > 0)
    # A tile leads to the queues that have such tasks.
    view.page.locator("main").get_by_role("link", name=re.compile("^Dead")).first.click()
    view.until(lambda page: "sort=dead" in page.url or page.url.endswith("#/dead"), "the tile of dead tasks is a link")
    # What the server warns of is seen here, in its own words.
    view.open()
    alerts = [alert for alert in emq.call("GET", "/alerts/")["alerts"] if "overview/c" in alert["text"]]
    check("there is an alert", alerts, alerts)
    for alert in alerts:
        expect(view.page.locator("main")).to_contain_text(alert["text"])
    for queue in "abc":
        emq.call("POST", f"/purge/overview/{queue}?state=all")
