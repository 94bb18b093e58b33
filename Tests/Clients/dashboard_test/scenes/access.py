"""Tokens, contents that are hidden, and a proxy."""

import hashlib
import json
import re
import shutil
import subprocess
import tempfile

import server
from browser import View, check, expect

TOKENS = {
    "boss": {"allow": ["enqueue", "work", "read", "manage", "admin", "metrics"]},
    "reader": {"allow": ["read"]},
    "team": {"allow": ["enqueue", "work", "read", "manage"], "queues": ["mine/*"]},
}
CHANGES = re.compile(r"^\s*(Pause|Resume|Kick|Purge|Move|Retry|Run now|Cancel|Change|Enqueue again|Add a task|Give back|Delete)\b")


def guarded():
    """A server with tokens, and a client with each."""
    path = tempfile.mktemp(dir=server.work)
    with open(path, "w") as file:
        json.dump({"tokens": [{"name": name, "sha256": hashlib.sha256(f"token-{name}".encode()).hexdigest(), **rights}
                              for name, rights in TOKENS.items()]}, file)
    emq = server.Emq("--tokens", path)
    emq.client = server.Client(emq.port, "token-boss")
    emq.enqueue_many("mine/a", [{"content": "confidential"}] * 3)
    emq.enqueue_many("theirs/a", [{"content": "theirs"}] * 4)
    for queue in "mine/dead", "theirs/dead":
        emq.enqueue(queue, max_retries=0)
        emq.call("POST", "/nak/", {"ids": [emq.take(queue, worker=f"of {queue}")[0]["receipt"]], "error": f"died in {queue}"})
    return emq


def enter(view, token):
    """Opens the page, and answers its question for a token."""
    view.expect_problems("status of 401")
    view.page.goto(f"{view.url}/")
    dialog = view.opened_dialog()
    dialog.get_by_label("Token").fill(token)
    view.page.keyboard.press("Enter")
    return dialog


def enter_a_token(site):
    emq = guarded()
    view = site.view(None, server=emq)
    view.expect_problems("status of 401")
    dialog = enter(view, "token-nobody")
    # A wrong token is refused, and the page asks again.
    expect(dialog.get_by_role("alert")).not_to_be_empty()
    field = dialog.get_by_label("Token")
    expect(field).to_have_attribute("type", "password")
    check("the page shows nothing without a token", "mine" not in view.page.content())
    field.fill("token-boss")
    view.page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    expect(view.page.locator("main h1")).to_contain_text("Overview")
    view.open("queues?flat=1")
    view.until(lambda _: "theirs/a" in view.names(), "the token shows the queues")
    check("no address has the token", not any("token-boss" in request.url for request in view.requests))
    # It lasts for the tab, and no longer.
    view.page.reload()
    view.until(lambda _: "theirs/a" in view.names(), "the token lasts over a reload")
    other = view.context.new_page()
    other.goto(f"{view.url}/")
    expect(other.get_by_role("dialog")).to_be_visible()
    other.close()
    stored = view.page.evaluate("JSON.stringify(localStorage) + document.cookie")
    check("the token is not kept on disk", "token-boss" not in stored, stored)
    emq.finish()


def look_with_a_token_that_only_reads(site):
    emq = guarded()
    task = emq.call("GET", "/peek/theirs%2Fdead?state=dead")[0]["id"]
    view = site.view(None, server=emq)
    dialog = enter(view, "token-reader")
    expect(dialog).to_have_count(0)
    for path in "", "queues?flat=1", "queue/mine%2Fa", f"task/{task}", "dead", "workers":
        view.open(path)
        view.page.wait_for_timeout(300)
        found = [text for text in view.page.locator("main").get_by_role("button").all_inner_texts() if CHANGES.match(text)]
        check(f"{path or 'overview'} offers a reader no change", not found, found)
    view.open("queues?flat=1")
    view.page.get_by_role("checkbox", name="Select mine/a").check()
    found = [text for text in view.page.get_by_role("button").all_inner_texts() if CHANGES.match(text)]
    check("queues offer a reader no change", not found, found)
    # A token for some queues sees those, and no error.
    view = site.view(None, server=emq)
    dialog = enter(view, "token-team")
    expect(dialog).to_have_count(0)
    for path in "", "queues?flat=1", "dead", "workers":
        view.open(path)
        view.page.wait_for_timeout(300)
        check(f"{path or 'overview'} shows nothing of others", "theirs" not in view.text(), view.text())
        check(f"{path or 'overview'} is whole for a team", not re.search("undefined|NaN|Not shown", view.text()), view.text())
    view.open("queues?flat=1")
    view.until(lambda _: "mine/a" in view.names(), "a team sees its queues")
    emq.finish()


def hide_contents(site):
    emq = guarded()
    emq.call("PUT", "/config/mine%2Fa", {"show_content": False})
    task = emq.call("GET", "/peek/mine%2Fa")[0]["id"]
    for token, is_seen in ("reader", False), ("boss", True):
        view = site.view(None, server=emq)
        dialog = enter(view, f"token-{token}")
        expect(dialog).to_have_count(0)
        for path in f"task/{task}", "queue/mine%2Fa":
            view.open(path)
            view.page.wait_for_timeout(500)
            check(f"{path}: {token} {'sees' if is_seen else 'does not see'} the content",
                  ("confidential" in view.page.content()) == is_seen, view.text())
        if not is_seen:
            view.open(f"task/{task}")
            expect(view.page.locator("main")).to_contain_text("hides contents")
    emq.finish()


NGINX = """
pid {place}/pid;
error_log {place}/error.log;
daemon off;
master_process off;
events {{}}
http {{
    access_log off;
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location /tools/queue/ {{
            proxy_pass {backend}/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_read_timeout 3600s;
        }}
    }}
}}
"""


def behind_a_proxy_with_a_prefix(site):
    """nginx with its defaults, which buffers: the stream has to tell it not to."""
    program = shutil.which("nginx")
    if not program:
        print("  skipped: there is no nginx")
        return
    emq = site.server
    emq.enqueue_many("proxied/a", [{}] * 3)
    place, port = tempfile.mkdtemp(dir=server.work), server.free_port()
    with open(f"{place}/nginx.conf", "w") as file:
        file.write(NGINX.format(place=place, port=port, backend=getattr(emq, "page_url", emq.url)))
    proxy = subprocess.Popen([program, "-c", f"{place}/nginx.conf", "-e", f"{place}/error.log"], stderr=subprocess.DEVNULL)
    server.running.append(proxy)
    view = View(site.browser, emq)
    site.views.append(view)
    view.url = f"http://127.0.0.1:{port}/tools/queue"
    server.eventually(lambda: works(port))
    view.open("queues?flat=1&match=proxied")
    view.until(lambda _: view.names() == ["proxied/a"], "the queue is seen through the proxy")
    emq.enqueue_many("proxied/a", [{}] * 2)
    view.until(lambda _: view.cell(view.row("proxied/a"), "Ready") == "5", "figures come through the proxy as they change", 4)
    view.row("proxied/a").get_by_role("link").click()
    view.until(lambda page: page.url.startswith(f"{view.url}/#/queue/"), "links stay below the prefix")
    view.button("Pause", view.page.locator("main")).first.click()
    view.until(lambda _: emq.call("GET", "/stats/proxied%2Fa")["paused"], "a change works through the proxy")
    outside = [request.url for request in view.requests if not request.url.startswith((f"{view.url}/", "data:"))]
    check("all requests are below the prefix", not outside, outside)
    # nginx makes the other queue of this one.
    emq.enqueue("proxied//a")
    view.open("queue/proxied%2F%2Fa")
    view.page.wait_for_timeout(300)
    check("nothing can be done to another queue", view.page.locator("main").get_by_role("button", name=CHANGES).count() == 0, view.text())
    emq.call("POST", "/purge/proxied%2F%2Fa")
    emq.call("POST", "/resume/proxied%2Fa")
    emq.call("POST", "/purge/proxied%2Fa")
    proxy.terminate()
    proxy.wait()
    server.running.remove(proxy)


def works(port):
    try:
        return server.Client(port).send("GET", "/tools/queue/healthz")[0] == 200
    except OSError:
        return False
