"""The page of one queue."""

import re

from browser import check, expect
from server import quote


def configure_a_queue(site):
    emq = site.server
    name = "configured/one"
    emq.call("PUT", f"/config/{name}", {"retry": 30, "max_retries": 3, "push": {
        "url": "http://127.0.0.1:9/hook", "secret": "a long random text", "headers": {"X-Key": "hidden"}}})
    configuration = lambda: emq.call("GET", f"/config/{name}")
    view = site.view(f"queue/{quote(name)}")
    # A wrong value is refused by the server, in its words, before it is saved.
    view.expect_problems("status of 400")
    main = view.page.locator("main")
    check("the secret is not shown", "random" not in main.inner_html())
    view.button("Change", main).first.click()
    form = view.page.locator("form").filter(has=view.page.get_by_label("Retries at most"))
    retries = form.get_by_label("Retries at most")
    expect(retries).to_have_value("3")
    expect(view.button("Save", form)).to_be_disabled()
    retries.fill("-4")
    expect(retries).to_have_attribute("aria-invalid", "true")
    flaw = main.locator(f"[id='{retries.get_attribute('aria-describedby')}']")
    expect(flaw).to_contain_text("max_retries")
    expect(view.button("Save", form)).to_be_disabled()
    # Figures come every second; what is typed stays, also on the way to another page and back.
    retries.fill("7")
    expect(retries).not_to_have_attribute("aria-invalid", "true")
    view.open("queues")
    view.open(f"queue/{quote(name)}")
    if view.button("Change", main).count():
        view.button("Change", main).first.click()
    expect(retries).to_have_value("7")
    form.get_by_label("Lease").fill("45")
    # The change is shown before it is saved.
    view.button("Save", form).click()
    dialog = view.opened_dialog()
    expect(dialog).to_contain_text(re.compile(r"Retries at most.*3.*7.*Lease.*30 s.*45 s", re.DOTALL))
    dialog.get_by_role("button", name="Keep").click()
    check("nothing has changed before it is saved", configuration()["max_retries"] == 3, configuration())
    view.button("Save", form).click()
    view.button("Save", view.opened_dialog()).click()
    view.until(lambda _: configuration()["max_retries"] == 7, "the change is saved")
    got = configuration()
    check("the rest stays", got["retry"] == 45 and got["push"]["secret"] == "***" and got["push"]["headers"] == {"X-Key": "***"}, got)
    expect(view.page.locator("main")).to_contain_text("7")
    emq.call("DELETE", f"/config/{name}")


def act_on_a_queue(site):
    emq = site.server
    name = "acted/on it?"
    path = quote(name)
    emq.call("PUT", f"/config/{path}", {"max_retries": 0})
    ids = emq.enqueue_many(name, [{"content": {"n": number}} for number in range(30)])
    taken = emq.take(name, count=2)
    emq.call("POST", "/nak/", {"ids": [task["receipt"] for task in taken], "error": "broken"})
    stats = lambda: emq.call("GET", f"/stats/{path}")
    view = site.view(f"queue/{path}")
    main = view.page.locator("main")
    expect(main.get_by_role("heading", level=1)).to_contain_text(name)
    view.button("Pause", main).first.click()
    view.until(lambda _: stats()["paused"], "the queue is paused")
    view.button("Resume", main).first.click()
    view.until(lambda _: not stats()["paused"], "the queue is resumed")
    # Its tasks, by state.
    expect(main.get_by_role("link", name=ids[5])).to_be_visible()
    main.get_by_role("tab", name=re.compile("^Dead")).click()
    expect(main.get_by_role("link", name=ids[0])).to_be_visible()
    expect(main).to_contain_text("broken")
    view.button("Kick", main).first.click()
    dialog = view.opened_dialog()
    expect(dialog).to_contain_text("2 tasks")
    view.button("Kick", dialog).last.click()
    view.until(lambda _: stats()["dead"] == 0, "the dead tasks are ready")
    view.says("Kicked 2 tasks")
    main.get_by_role("tab", name=re.compile("^Ready")).click()
    view.button("Move", main).first.click()
    dialog = view.opened_dialog()
    dialog.get_by_label("To the queue").fill("acted/target")
    view.button("Move", dialog).last.click()
    view.until(lambda _: emq.call("GET", "/stats/acted/target")["ready"] == 30, "the tasks are in the other queue")
    emq.call("POST", "/move/acted/target?to=" + path)
    expect(main.get_by_role("tab", name=re.compile("^Ready"))).to_contain_text("30")
    view.button("Purge", main).first.click()
    dialog = view.opened_dialog()
    expect(dialog).to_contain_text("30 tasks")
    view.button("Purge", dialog).last.click()
    view.until(lambda _: stats()["ready"] == 0, "the queue is purged")
    # A new task, of the queue's own page.
    view.button("Add a task", main).click()
    dialog = view.opened_dialog()
    dialog.get_by_label("Content").fill('{"n": 12345678901234567890}')
    view.button("Enqueue", dialog).last.click()
    view.until(lambda _: stats()["ready"] == 1, "a task is added")
    check("its content is as it was typed", b"12345678901234567890" in emq.client.send("GET", f"/peek/{path}")[1])
    emq.call("POST", f"/purge/{path}?state=all")
    emq.call("DELETE", f"/config/{path}")
