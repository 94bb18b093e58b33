"""The page of dead tasks."""

from browser import check, expect
from server import quote


def act_on_a_group_of_dead_tasks(site):
    emq = site.server
    deaths = {("graves/a", "no route to host"): 150, ("graves/a", "disk full"): 20, ("graves/b", "no route to host"): 4,
              ("graves/b", None): 3}
    for (queue, error), count in deaths.items():
        emq.call("POST", f"/enqueue/{queue}", [{"max_retries": 0, "content": error}] * count)
        taken = emq.take(queue, count=1000)
        refusal = {"ids": [task["receipt"] for task in taken], "dead": True}
        emq.call("POST", "/nak/", refusal | ({"error": f"{error}\nat line {count}"} if error else {}))
    stats = lambda queue: emq.call("GET", f"/stats/{queue}")
    view = site.view("dead")
    main = view.page.locator("main")
    row = lambda queue, text: main.locator("tbody tr").filter(has_text=queue).filter(has_text=text)
    first = row("graves/a", "no route to host")
    expect(first).to_have_count(1)
    for (queue, error), count in deaths.items():
        if error:
            expect(row(queue, error)).to_contain_text(str(count))
    # 150 tasks are too many for a click.
    view.button("Retry", first).click()
    dialog = view.opened_dialog()
    expect(dialog).to_contain_text("150 dead tasks")
    sure = view.button("Retry", dialog)
    expect(sure).to_be_disabled()
    dialog.get_by_role("textbox").fill("150")
    sure.click()
    view.until(lambda _: stats("graves/a")["ready"] == 150, "the group is ready")
    check("other groups stay dead", stats("graves/a")["dead"] == 20 and stats("graves/b")["dead"] == 7, stats("graves/b"))
    view.says("150")
    expect(row("graves/a", "no route to host")).to_have_count(0)
    # A few are purged with a click, after a question.
    view.button("Delete", row("graves/a", "disk full")).click()
    dialog = view.opened_dialog()
    view.button("Delete", dialog).click()
    view.until(lambda _: stats("graves/a")["dead"] == 0, "the group is purged")
    # A row can be opened, to see some of its tasks.
    main.get_by_role("button", name="no route to host").click()
    expect(main.get_by_role("table").last).to_contain_text("Attempts")
    # And moved.
    view.button("Move", row("graves/b", "no route to host")).click()
    dialog = view.opened_dialog()
    dialog.get_by_label("To queue").fill("graves/review")
    view.button("Move", dialog).last.click()
    view.until(lambda _: stats("graves/review")["dead"] == 4, "the group is in the other queue")
    check("the group without an error stays", stats("graves/b")["dead"] == 3, stats("graves/b"))
    for queue in emq.call("GET", "/queues/?prefix=graves"):
        emq.call("POST", f"/purge/{quote(queue)}?state=all")
