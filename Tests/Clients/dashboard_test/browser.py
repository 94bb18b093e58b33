"""Chromium, and what is asked of a page in it. Whatever a page complains of is a failure, unless the scene expects it."""

import os
import re
import shutil
import sys
import time
import traceback

import axe_playwright_python
from playwright.sync_api import Error, expect, sync_playwright

AXE = os.path.join(os.path.dirname(axe_playwright_python.__file__), "axe.min.js")
RULES = "wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
# In milliseconds. The machine may be busy, and figures come once a second.
PATIENCE = 10_000
expect.set_options(timeout=PATIENCE)

passed = 0
failed = 0
failures_folder = None


def check(name, condition, got=""):
    """Counts a check, and says what was wrong."""
    global passed, failed
    if condition:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {name}\n  got: {str(got)[:1500]}", file=sys.stderr, flush=True)


class Browser:
    """A browser, in which each context is as one of a user who was never there before."""

    def __enter__(self):
        self.playwright = sync_playwright().start()
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        if not program:
            sys.exit("there is no chromium")
        self.chromium = self.playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--lang=en"])
        return self

    def __exit__(self, *_):
        self.chromium.close()
        self.playwright.stop()

    def context(self, viewport=DESKTOP, **options):
        """A context. `options` are those of Playwright, such as `color_scheme="dark"`."""
        defaults = {"locale": "en-GB", "timezone_id": "Europe/Berlin", "reduced_motion": "reduce"}
        context = self.chromium.new_context(viewport=viewport, **(defaults | options))
        context.set_default_timeout(PATIENCE)
        # What the policy forbids is logged as an error by Chromium; this says what it was.
        context.add_init_script(
            "addEventListener('securitypolicyviolation', (event) => console.error(`CSP: ${event.violatedDirective} "
            "forbids ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`))")
        return context


class View:
    """A page of the dashboard of one server, and all that it complains of."""

    def __init__(self, browser, server, context=None, **options):
        self.server, self.owns_context = server, context is None
        self.context = context or browser.context(**options)
        self.url = getattr(server, "page_url", server.url)
        self.problems, self.expected, self.requests = [], [], []
        self.page = self.context.new_page()
        page = self.page
        page.on("console", lambda message: message.type in ("error", "warning") and self.note(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.note(f"exception: {error.stack or error}"))
        page.on("requestfailed", self.lost)
        page.on("request", lambda request: self.requests.append(request))
        page.on("dialog", self.dialog)

    def note(self, problem):
        self.problems.append(problem)

    def lost(self, request):
        # The page itself ends a stream when it needs another one.
        if "/events" not in request.url or request.failure != "net::ERR_ABORTED":
            self.note(f"request failed: {request.method} {request.url}: {request.failure}")

    def dialog(self, dialog):
        self.note(f"a script has opened a dialog: {dialog.type} {dialog.message}")
        dialog.dismiss()

    def expect_problems(self, *patterns):
        """From now on, problems that match one of the regular expressions are none."""
        self.expected += patterns

    def unexpected(self):
        return [problem for problem in self.problems
                if not any(re.search(pattern, problem, re.DOTALL) for pattern in self.expected)]

    def open(self, path=""):
        """Opens the dashboard at a place, such as `queues?sort=dead`, and waits until it shows figures."""
        address = f"{self.url}/#/{path}"
        if self.page.url.startswith(f"{self.url}/"):
            self.page.evaluate("address => { location.href = address }", address)
        else:
            self.page.goto(address, wait_until="load")
        expect(self.page.locator("main h1").first).to_be_visible()
        expect(self.page.locator("main")).not_to_contain_text("Loading…")
        return self.page

    def text(self, place="main"):
        """What is seen there."""
        return self.page.locator(place).first.inner_text()

    def until(self, question, what, seconds=PATIENCE / 1000):
        """Asks until the answer is true, and returns it. `question` gets the page."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                answer = question(self.page)
            except Error as error:
                # The element has just been replaced.
                answer = None
                if time.monotonic() > deadline:
                    raise AssertionError(f"{what}: {error}") from error
            if answer:
                return answer
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: {answer!r}")
            self.page.wait_for_timeout(50)

    def says(self, text):
        """Waits for a message to the user."""
        expect(self.page.get_by_role("status").filter(has_text=text).first).to_be_visible()

    def button(self, name, within=None):
        """The button with this name, or with one that begins with it."""
        place = within if within is not None else self.page
        return place.get_by_role("button", name=re.compile(rf"^\s*{re.escape(name)}\b", re.IGNORECASE))

    def opened_dialog(self):
        dialog = self.page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        check("a dialog has a name", (dialog.get_attribute("aria-labelledby") or dialog.get_attribute("aria-label")))
        return dialog

    def cell(self, row, column):
        """The text of a row's cell below a column's heading."""
        headings = [text.strip() for text in self.page.locator("main thead th").all_inner_texts()]
        place = next(index for index, text in enumerate(headings) if text.lower().startswith(column.lower()))
        return row.locator("th, td").nth(place).inner_text().strip()

    def row(self, name):
        """The row of a table that is about something with this name."""
        exactly = re.compile(f"^{re.escape(name)}$")
        return self.page.locator("main tbody tr").filter(has=self.page.locator("th a").filter(has_text=exactly))

    def names(self):
        """The names in the first column of the table, in their order."""
        return self.page.locator("main tbody tr th a").all_inner_texts()

    def axe(self, place):
        """Checks the page's accessibility."""
        if not self.page.evaluate("() => 'axe' in globalThis"):
            with open(AXE) as file:
                self.page.evaluate(file.read())
        results = self.page.evaluate(
            "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}, resultTypes: ['violations']})",
            list(RULES))
        for found in results["violations"]:
            nodes = [f"{' '.join(map(str, node['target']))}: {node.get('failureSummary', '')} {node['html'][:200]}"
                     for node in found["nodes"][:4]]
            check(f"axe: {place}: {found['id']}: {found['help']} ({len(found['nodes'])} times)", False, "\n       ".join(nodes))
        check(f"axe has looked at {place}", results is not None)

    def fits(self, place):
        """Checks that the page does not scroll sideways."""
        wide = self.page.evaluate("""() => {
            const width = document.documentElement.clientWidth
            if (document.documentElement.scrollWidth <= width) return []
            const isClipped = (element) => {
                for (let parent = element.parentElement; parent; parent = parent.parentElement)
                    if (getComputedStyle(parent).overflowX !== 'visible') return true
                return false
            }
            // A text that is too long for its element does not widen it.
            const wideTexts = (width) => {
                const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
                const range = document.createRange()
                const wide = []
                while (texts.nextNode() && wide.length < 5) {
                    range.selectNodeContents(texts.currentNode)
                    const isWide = range.getBoundingClientRect().right > width + 1
                    if (isWide && !isClipped(texts.currentNode.parentElement)) wide.push(texts.currentNode.data.slice(0, 150))
                }
                return wide
            }
            return [...document.querySelectorAll('body *')]
                .filter((element) => element.getBoundingClientRect().right > width + 1 && !isClipped(element))
                .slice(0, 5).map((element) => element.outerHTML.slice(0, 150))
                .concat(wideTexts(width), `${document.documentElement.scrollWidth} of ${width}`)
        }""")
        check(f"{place} does not scroll sideways", not wide, wide)

    def end(self, scene):
        problems = self.unexpected()
        check(f"{scene}: the page complains of nothing", not problems, "\n       ".join(problems[:6]))
        if self.owns_context:
            self.context.close()
        else:
            self.page.close()


class Site:
    """What a scene gets: a server, and new pages of it."""

    def __init__(self, browser, server, world=None):
        self.browser, self.server, self.world, self.views = browser, server, world, []

    def view(self, path="", server=None, **options):
        """A new page, opened at a place; with `path=None`, not opened yet."""
        view = View(self.browser, server or self.server, **options)
        self.views.append(view)
        if path is not None:
            view.open(path)
        return view


def run(scene, browser, server, world=None):
    """Runs a scene, and says how long it took."""
    name = scene.__name__
    site, begin, failed_before = Site(browser, server, world), time.monotonic(), failed
    try:
        scene(site)
    except Exception as error:
        place = next((f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.line}"
                      for frame in reversed(traceback.extract_tb(error.__traceback__)) if "/dashboard_test/" in frame.filename
                      and "browser.py" not in frame.filename), "")
        check(f"{name} at {place}", False, error)
    if failed > failed_before and failures_folder:
        os.makedirs(failures_folder, exist_ok=True)
        for index, view in enumerate(site.views):
            try:
                view.page.screenshot(path=f"{failures_folder}/{name}-{index}.png")
            except Error:
                pass
    for view in site.views:
        view.end(name)
    print(f"  {name.replace('_', ' ')}: {time.monotonic() - begin:.1f} s", flush=True)

