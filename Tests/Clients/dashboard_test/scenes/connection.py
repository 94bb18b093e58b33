"""What a page does when the server is gone, when nobody looks, and when somebody reads."""

import http.server
import json
import threading
import urllib.parse
import urllib.request

import server
from browser import View, check, expect
from scenes.figures import shown_number

LIVE, LOST = "Live", "Connection lost"


def lose_the_connection(site):
    emq = server.Emq()
    emq.enqueue_many("q", [{}] * 7)
    view = site.view(server=emq)
    view.expect_problems("Failed to load resource", "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING",
                         "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "request failed: GET [^ ]*/(events|access)",
                         "Failed to load resource: the server responded with a status of 50[234]")
    view.says(LIVE)
    ready = view.page.locator("main .tile").first
    check("a figure is seen", shown_number(ready.inner_text()) == 7, ready.inner_text())
    emq.kill()
    view.says(LOST)
    check("the last figures stay", shown_number(ready.inner_text()) == 7, ready.inner_text())
    # The page waits longer and longer, but tries again.
    view.page.wait_for_timeout(1500)
    tries = len([request for request in view.requests if "/events" in request.url])
    check("the page does not ask all the time", tries < 12, tries)
    emq.start()
    emq.enqueue_many("q", [{}] * 3)
    view.says(LIVE)
    view.until(lambda _: shown_number(ready.inner_text()) == 3, "the new figures are seen without a reload", 15)
    # It stops in good order, and says so.
    emq.finish()
    view.until(lambda page: page.get_by_role("status").first.inner_text() in ("Server stopping", LOST), "the stop is seen")


def see_that_figures_are_old(site):
    """A server that is recovering or short of memory refuses to show what it showed before."""
    emq = server.Emq()
    emq.enqueue_many("q", [{}] * 7)
    shown, recovers, ends = threading.Event(), threading.Event(), threading.Event()

    class Front(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if not self.path.startswith("/events"):
                with urllib.request.urlopen(emq.url + self.path) as answer:
                    return self.answer(answer.headers["Content-Type"], answer.read())
            paths = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["get"]
            events = "".join(f"event: {index}\ndata: {json.dumps(emq.call('GET', path))}\n\n"
                             for index, path in enumerate(paths)).encode()
            refusal = json.dumps({"title": "Busy", "detail": "there is no memory for this", "status": 503})
            self.answer("text/event-stream", events)
            shown.wait(30)
            self.wfile.write(f"event: 0/503\ndata: {refusal}\n\n".encode())
            recovers.wait(30)
            self.wfile.write(events)
            ends.wait(30)

        def answer(self, kind, body):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

    front = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Front)
    front.daemon_threads = True
    threading.Thread(target=front.serve_forever, daemon=True).start()
    view = View(site.browser, emq)
    site.views.append(view)
    view.url = f"http://127.0.0.1:{front.server_port}"
    view.open()
    shown.set()
    status = view.page.get_by_role("status").first
    view.says("Not up to date")
    check("it says why", status.get_attribute("title") == "there is no memory for this", status.get_attribute("title"))
    ready = view.page.locator("main .tile").first
    check("the last figures stay", shown_number(ready.inner_text()) == 7, ready.inner_text())
    recovers.set()
    view.says(LIVE)
    ends.set()
    front.shutdown()


def hide_the_tab(site):
    """Chromium without a window shows all pages at once, so the tab is told that it is hidden."""
    emq = site.server
    view = site.view()
    view.page.wait_for_timeout(500)
    ended = []
    view.page.on("requestfailed", lambda request: "/events" in request.url and ended.append(request))
    view.page.on("requestfinished", lambda request: "/events" in request.url and ended.append(request))
    hide = """isHidden => {
        Object.defineProperty(document, 'hidden', {configurable: true, get: () => isHidden})
        Object.defineProperty(document, 'visibilityState', {configurable: true, get: () => isHidden ? 'hidden' : 'visible'})
        document.dispatchEvent(new Event('visibilitychange'))
    }"""
    view.page.evaluate(hide, True)
    view.until(lambda _: ended, "the stream of a hidden page ends")
    before = len(view.requests)
    view.page.wait_for_timeout(2000)
    check("a hidden page asks for nothing", len(view.requests) == before, [request.url for request in view.requests[before:]])
    emq.enqueue_many("hidden", [{}] * 5)
    view.page.evaluate(hide, False)
    view.until(lambda page: emq.call("GET", "/stats/?n=1")["states"]["ready"] == shown_number(
        page.locator("main .tile").first.inner_text()), "the figures are those of now again")
    view.says(LIVE)
    emq.call("POST", "/purge/hidden")


def hold_what_is_selected(site):
    emq = site.server
    emq.enqueue_many("held", [{}] * 5)
    view = site.view("queues?flat=1&match=held")
    cell = lambda: view.cell(view.row("held"), "Ready")
    view.until(lambda _: cell() == "5", "the queue is there")
    # Somebody selects the name, to copy it.
    view.page.evaluate("getSelection().selectAllChildren(document.querySelector('main tbody a'))")
    emq.enqueue_many("held", [{}] * 4)
    view.page.wait_for_timeout(2500)
    check("the selection stays", view.page.evaluate("getSelection().toString()").strip() == "held",
          view.page.evaluate("getSelection().toString()"))
    check("the figures stay while text is selected", cell() == "5", cell())
    expect(view.page.get_by_role("status").first).to_have_text("On hold")
    view.page.evaluate("getSelection().removeAllRanges()")
    view.until(lambda _: cell() == "9", "the figures go on")
    # A dialog is open.
    view.page.keyboard.press("?")
    dialog = view.opened_dialog()
    emq.enqueue_many("held", [{}] * 2)
    view.page.wait_for_timeout(2500)
    expect(dialog).to_be_visible()
    check("the figures stay while a dialog is open", cell() == "9", cell())
    view.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    view.until(lambda _: cell() == "11", "the figures go on after the dialog")
    # The focus stays where it is while figures change.
    view.row("held").get_by_role("link").focus()
    emq.enqueue_many("held", [{}])
    view.until(lambda _: cell() == "12", "the figures go on with a focus")
    check("the focus stays", view.page.evaluate("document.activeElement.textContent") == "held")
    emq.call("POST", "/purge/held")
