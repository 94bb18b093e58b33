"""The page of workers."""

import threading

import server
from browser import check, expect


def see_workers(site):
    emq = site.server
    ids = emq.enqueue_many("works", [{}] * 5)
    emq.take("works", count=3, worker="holder-1", retry=3600)
    emq.take("works", count=1, worker="holder-2", retry=3600)
    client = server.Client(emq.port)
    waiting = threading.Thread(target=client.call, args=(
        "POST", "/wait/", {"queues": ["works/idle", "works/more"], "max": 1, "timeout": 20_000, "worker": "waiter-1"}))
    waiting.start()
    view = site.view("workers")
    row = lambda name: view.page.locator("main tbody tr").filter(has_text=name)
    expect(row("waiter-1")).to_contain_text("works/idle")
    expect(row("holder-1")).to_contain_text("3")
    expect(row("holder-2")).to_contain_text("1")
    # It leads to what a worker holds.
    link = row("holder-2").get_by_role("link", name=ids[3])
    if link.count():
        link.first.click()
        view.until(lambda page: page.url.endswith(f"#/task/{ids[3]}"), "a held task is a link")
        expect(view.page.locator("main")).to_contain_text("holder-2")
        view.page.go_back()
    expect(row("waiter-1")).to_have_count(1)
    emq.enqueue("works/idle")
    waiting.join()
    client.close()
    # It waits no more, and holds a task.
    view.until(lambda _: "works/more" not in row("waiter-1").inner_text(), "the worker does not wait any more")
    check("the page says how many", "3" in view.text(), view.text())
    for queue in "works", "works/idle":
        emq.call("POST", f"/purge/{queue}?state=all")
