"""The page of one task."""

import re

from browser import check, expect


def see_tasks_of_each_state(site):
    emq = site.server
    queue = "states/all"
    many = {"keep": 3600, "max_retries": 1, "backoff": 0}
    tasks = {state: emq.enqueue(queue, content={"is": state}, **(many | ({"delay": 3600} if state == "delayed" else {})))
             for state in ("done", "dead", "dispatched", "cancelled", "delayed", "ready")}
    take = lambda worker: emq.take(queue, worker=worker)[0]["receipt"]
    emq.call("POST", "/ack/", {"ids": [take("anna")], "result": {"sent": True}})
    for worker in "bert", "carl":
        receipt = next(task["receipt"] for task in emq.take(queue, count=9, worker=worker) if task["id"] == tasks["dead"])
        emq.call("POST", "/nak/", {"ids": [receipt], "error": f"{worker} could not reach the host\nsecond line",
                                     "log": f"{worker} tried\n"})
        if worker == "bert":
            # Give back what was taken beside it.
            held = [tasks[state] for state in ("dispatched", "cancelled", "ready")]
            emq.call("POST", "/nak/", {"ids": held, "release": True})
    emq.call("POST", "/nak/", {"ids": [tasks["ready"]], "release": True})
    emq.call("POST", "/touch/", {"ids": [tasks["dispatched"]], "progress": {"percent": 42}})
    emq.call("DELETE", f"/task/{tasks['cancelled']}")
    view = site.view(None)
    wanted = {
        "ready": ["ready"], "delayed": ["delayed"], "dispatched": ["running", "carl", "42"],
        "done": ["done", "sent", "anna"], "cancelled": ["cancelled"],
        "dead": ["dead", "bert could not reach the host", "carl could not reach the host", "second line", "carl tried"],
    }
    for state, words in wanted.items():
        got = emq.call("GET", f"/task/{tasks[state]}")
        check(f"the scene has a task that is {state}", got["state"] == state, got)
        view.open(f"task/{tasks[state]}")
        main = view.page.locator("main")
        for word in [tasks[state], queue, *words]:
            expect(main).to_contain_text(word)
        expect(main).to_contain_text(f'"{state}"')
        check(f"all is defined of a task that is {state}", not re.search(r"undefined|NaN|\[object", view.text()), view.text())
    # Attempts are a table: who had it, and what came of it.
    view.open(f"task/{tasks['dead']}")
    attempts = view.page.get_by_role("table").filter(has_text="bert")
    expect(attempts).to_contain_text("carl")
    check("attempts have headings", attempts.locator("th[scope=col]").count() >= 3, attempts.inner_text())
    # A task that is gone, and one that never was.
    view.expect_problems("status of 404")
    for task in "AaH9bINzcAAOWKoVzpKOlg", "nonsense":
        view.page.evaluate("path => { location.hash = path }", f"#/task/{task}")
        view.until(lambda page: re.search(r"no (such )?task|Not shown", page.locator("main").inner_text()), f"{task} is said to be missing")
    emq.call("POST", f"/purge/{queue}?state=all")


def act_on_a_task(site):
    emq = site.server
    show = lambda task: emq.call("GET", f"/task/{task}")
    view = site.view(None)
    main = view.page.locator("main")

    def press(name):
        view.button(name, main).first.click()
        dialog = view.page.get_by_role("dialog")
        view.page.wait_for_timeout(150)
        if dialog.count():
            view.button(name, dialog).last.click()

    delayed = emq.enqueue("act", content=1, delay=3600, keep=600)
    view.open(f"task/{delayed}")
    press("Run now")
    view.until(lambda _: show(delayed)["state"] == "ready", "a delayed task is ready")
    expect(main).to_contain_text("ready")
    press("Cancel")
    view.until(lambda _: show(delayed)["state"] == "cancelled", "a task is cancelled")
    dead = emq.enqueue("act", content={"big": 1}, max_retries=0, key="k 1", metadata={"a": "b"})
    emq.call("POST", "/nak/", {"ids": [emq.take("act")[0]["receipt"]], "error": "broken"})
    view.open(f"task/{dead}")
    press("Retry")
    view.until(lambda _: show(dead)["state"] == "ready", "a dead task is ready")
    view.button("Move", main).first.click()
    dialog = view.opened_dialog()
    dialog.get_by_label("To queue").fill("act/other")
    view.button("Move", dialog).last.click()
    view.until(lambda _: show(dead)["queue"] == "act/other", "the task is in the other queue")
    expect(main).to_contain_text("in act/other")
    view.button("Enqueue again", main).first.click()
    dialog = view.opened_dialog()
    content = dialog.get_by_label(re.compile("content", re.IGNORECASE)).first
    # What is no JSON is refused here, and what is goes as it is written.
    view.expect_problems("status of 400")
    content.fill('{"big": 1')
    view.button("Enqueue", dialog).last.click()
    expect(dialog).to_be_visible()
    content.fill('{"big": 9007199254740993, "huge": 1e400}')
    view.button("Enqueue", dialog).last.click()
    view.until(lambda _: emq.call("GET", "/stats/act/other")["ready"] == 2, "there is another task")
    status, text = emq.client.send("GET", "/peek/act/other?n=9")
    check("the new content is byte for byte", b'{"big": 9007199254740993, "huge": 1e400}' in text, text)
    for queue in "act", "act/other":
        emq.call("POST", f"/purge/{queue}?state=all")


def see_numbers_as_they_are(site):
    emq = site.server
    content = '{"id":9007199254740993,"huge":1e400,"exact":0.10000000000000000555,"minus":-0,"twice":1,"twice":2}'
    task = emq.call("POST", "/enqueue/numbers", f'{{"content":{content},"keep":600}}'.encode())["id"]
    view = site.view(f"task/{task}")
    for number in "9007199254740993", "1e400", "0.10000000000000000555", "-0":
        expect(view.page.locator("main")).to_contain_text(number)
    check("a name that comes twice is seen twice", view.text().count('"twice"') >= 2, view.text())
    receipt = emq.take("numbers")[0]["receipt"]
    emq.call("POST", "/ack/", b'{"ids":["' + receipt.encode() + b'"],"result":{"id":12345678901234567890}}')
    expect(view.page.locator("main")).to_contain_text("12345678901234567890")
    # The command that a button copies does in a shell what the page does.
    view.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = view.button("Copy as curl", view.page.locator("main"))
    if button.count():
        button.first.click()
        text = view.page.evaluate("navigator.clipboard.readText()")
        check("a command is copied", text.startswith("curl "), text)
