"""The page of all queues."""

from browser import check, expect


def sort_and_filter_queues(site):
    emq = site.server
    for number, name in enumerate(("alpha", "beta", "gamma", "delta")):
        emq.enqueue_many(f"sort-{name}", [{"delay": 60}] * (number + 1) + [{}] * (40 - 10 * number))
        emq.enqueue_many(f"sorted/in/{name}", [{}] * (number + 1))
    view = site.view("queues?flat=1")
    mine = lambda names: [name for name in names if name.startswith("sort-")]
    view.until(lambda _: mine(view.names()) == ["sort-alpha", "sort-beta", "sort-delta", "sort-gamma"], "sorted by name")
    view.button("Ready", view.page.locator("main thead")).click()
    view.until(lambda _: mine(view.names()) == ["sort-alpha", "sort-beta", "sort-gamma", "sort-delta"], "sorted by ready tasks")
    heading = view.page.locator("main thead th").filter(has_text="Ready")
    check("the order is announced", heading.get_attribute("aria-sort") == "descending", heading.get_attribute("aria-sort"))
    view.button("Delayed", view.page.locator("main thead")).click()
    view.until(lambda _: mine(view.names()) == ["sort-delta", "sort-gamma", "sort-beta", "sort-alpha"], "sorted by delayed tasks")
    check("the address says how", "sort=delayed" in view.page.url, view.page.url)
    check("a row shows its figures", view.cell(view.row("sort-alpha"), "Ready") == "40", view.row("sort-alpha").inner_text())
    # A filter, by a part of the name and by a pattern.
    box = view.page.locator("main").get_by_role("searchbox")
    box.fill("ort-")
    view.until(lambda _: len(view.names()) == 4 and mine(view.names()) == view.names(), "filtered by a part of the name")
    box.fill("sort-*ta")
    view.until(lambda _: sorted(view.names()) == ["sort-beta", "sort-delta"], "filtered by a pattern")
    check("the field keeps the focus", box.evaluate("element => element === document.activeElement"))
    box.fill("no such queue anywhere")
    expect(view.page.locator("main")).to_contain_text("No queue")
    box.fill("")
    # The tree.
    view.open("queues")
    view.row("sorted/").get_by_role("link").click()
    view.until(lambda _: view.names() == ["in/"], "the tree is open at its first branch")
    view.row("in/").get_by_role("link").click()
    view.until(lambda _: view.names() == ["alpha", "beta", "delta", "gamma"], "the tree is open at the leaves")
    view.page.go_back()
    view.until(lambda _: view.names() == ["in/"], "back is back")
    view.page.get_by_role("link", name="All queues").click()
    view.until(lambda _: "sorted/" in view.names(), "the way back is shown")
    check("a group has its sum", view.cell(view.row("sorted/"), "Ready") == "10", view.row("sorted/").inner_text())
    for name in emq.call("GET", "/queues/?prefix=sort"):
        emq.call("POST", f"/purge/{name}")


def act_on_several_queues(site):
    emq = site.server
    for name in "one", "two":
        emq.call("PUT", f"/config/several-{name}", {"max_retries": 0})
        emq.enqueue_many(f"several-{name}", [{}] * 80)
        taken = emq.take(f"several-{name}", count=3)
        emq.call("POST", "/nak/", {"ids": [task["receipt"] for task in taken], "error": "no"})
    emq.enqueue_many("several-other", [{}] * 3)
    stats = lambda name: emq.call("GET", f"/stats/several-{name}")
    view = site.view("queues?flat=1&match=several")

    def select():
        for name in "several-one", "several-two":
            view.page.get_by_role("checkbox", name=f"Select {name}", exact=True).check()
        bar = view.page.get_by_role("toolbar")
        expect(bar).to_contain_text("2 queues")
        return bar

    view.button("Pause", select()).click()
    expect(view.opened_dialog()).to_contain_text("2 queues will be paused")
    view.button("Pause", view.opened_dialog()).click()
    view.until(lambda _: stats("one")["paused"] and stats("two")["paused"], "both are paused")
    # Then the selection is over.
    view.says("Paused 2 queues")
    check("the other one is not paused", not stats("other")["paused"])
    expect(view.row("several-one")).to_contain_text("paused")
    view.button("Resume", select()).click()
    view.button("Resume", view.opened_dialog()).click()
    view.until(lambda _: not stats("one")["paused"] and not stats("two")["paused"], "both are resumed")
    view.says("Resumed 2 queues")
    view.button("Kick", select()).click()
    dialog = view.opened_dialog()
    expect(dialog).to_contain_text("6 tasks")
    view.button("Kick", dialog).click()
    view.until(lambda _: stats("one")["dead"] == 0 and stats("two")["dead"] == 0, "the dead tasks are ready")
    view.says("Kicked 6 tasks")
    # Over 100 tasks, a click is not enough.
    view.until(lambda _: view.cell(view.row("several-one"), "Ready") == "80", "the kicked tasks are seen")
    view.button("Purge", select()).click()
    dialog = view.opened_dialog()
    purge = view.button("Purge", dialog)
    expect(purge).to_be_disabled()
    dialog.get_by_role("textbox").fill("150")
    expect(purge).to_be_disabled()
    dialog.get_by_role("button", name="Keep").click()
    expect(dialog).to_have_count(0)
    check("nothing is purged yet", stats("one")["ready"] == 80, stats("one"))
    view.button("Purge").click()
    dialog = view.opened_dialog()
    # The figures behind the dialog change, and the dialog stays.
    emq.enqueue_many("several-other", [{}] * 3)
    view.page.wait_for_timeout(1500)
    dialog.get_by_role("textbox").fill("160")
    view.button("Purge", dialog).click()
    view.until(lambda _: stats("one")["ready"] + stats("two")["ready"] == 0, "both are purged")
    view.says("Purged 160 tasks")
    check("the other one is not purged", stats("other")["ready"] == 6, stats("other"))
    emq.call("POST", "/purge/several-other")
