"""Search, help, and all that works without a mouse."""

from browser import check, expect


def search(site):
    emq = site.server
    task = emq.enqueue("search/here", content=1, key="invoice 20417/ä")
    emq.enqueue("search/There-Too")
    view = site.view()
    page = view.page
    page.keyboard.press("/")
    box = page.get_by_role("combobox")
    check("the slash goes to the search", box.evaluate("element => element === document.activeElement"))
    results = page.get_by_role("option")
    # By an id, in both forms.
    box.fill(task)
    expect(results).to_have_count(1)
    page.keyboard.press("Enter")
    view.until(lambda page: page.url.endswith(f"#/task/{task}"), "the id leads to the task")
    expect(page.locator("main h1")).to_be_visible()
    # By a key.
    page.keyboard.press("/")
    box.fill("invoice 20417/ä")
    expect(results).to_have_count(1)
    expect(results.first).to_contain_text("search/here")
    results.first.click()
    view.until(lambda page: page.url.endswith(f"#/task/{task}"), "the key leads to the task")
    # By a part of a queue's name, whatever the case of its letters.
    page.keyboard.press("/")
    box.fill("there-t")
    expect(results).to_have_count(1)
    expect(results.first).to_contain_text("search/There-Too")
    box.fill("search/")
    expect(results).to_have_count(2)
    page.keyboard.press("ArrowDown")
    expect(results.nth(1)).to_have_attribute("aria-selected", "true")
    check("the choice is announced", box.get_attribute("aria-activedescendant") == results.nth(1).get_attribute("id"))
    page.keyboard.press("Enter")
    view.until(lambda page: "#/queue/search" in page.url, "the name leads to the queue")
    page.keyboard.press("/")
    box.fill("nothing has this name")
    expect(page.get_by_role("search")).to_contain_text("Nothing")
    page.keyboard.press("Escape")
    check("Escape leaves the search", not box.evaluate("element => element === document.activeElement"))
    emq.call("POST", "/purge/search/here")
    emq.call("POST", "/purge/search/There-Too")


def use_only_the_keyboard(site):
    emq = site.server
    for name in "keys-a", "keys-b":
        emq.enqueue_many(name, [{}] * 3)
    view = site.view()
    page = view.page
    page.keyboard.press("?")
    dialog = view.opened_dialog()
    for word in "Search", "Overview", "Queues", "Workers":
        expect(dialog).to_contain_text(word)
    # The keys of the page wait while a dialog is open.
    page.keyboard.press("g")
    page.keyboard.press("d")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    for key, place, heading in ("q", "queues", "Queues"), ("d", "dead", "Dead"), ("w", "workers", "Workers"), ("o", "", "Overview"):
        page.keyboard.press("g")
        page.keyboard.press(key)
        view.until(lambda page: page.url.endswith(f"#/{place}"), f"g {key} goes to {place or 'the overview'}")
        expect(page.locator("main h1")).to_contain_text(heading)
        current = page.get_by_role("navigation", name="Pages").locator("[aria-current=page]")
        expect(current).to_have_count(1)
        expect(current).to_contain_text(heading)
        check(f"the title says {heading}", heading in page.title(), page.title())
    # The first stop is a way past the navigation.
    view.open("queues?flat=1&match=keys-")
    page.reload()
    expect(view.row("keys-b")).to_be_visible()
    page.keyboard.press("Tab")
    skip = page.evaluate("document.activeElement.textContent")
    check("the first stop skips the navigation", "Skip" in skip, skip)
    page.keyboard.press("Enter")
    check("it leads to the contents", page.evaluate("document.activeElement.localName") == "main",
          page.evaluate("document.activeElement.outerHTML.slice(0, 100)"))
    # Rows by j and k, x selects, Tab reaches the button, Enter presses it.
    page.keyboard.press("j")
    check("j goes to the first row", page.evaluate("document.activeElement.textContent") == "keys-a")
    page.keyboard.press("j")
    check("j goes to the next row", page.evaluate("document.activeElement.textContent") == "keys-b")
    page.keyboard.press("x")
    expect(page.get_by_role("checkbox", name="Select keys-b")).to_be_checked()
    for _ in range(60):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == "Pause":
            break
    visible = page.evaluate("""() => {
        const style = getComputedStyle(document.activeElement)
        return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0 || style.boxShadow !== 'none'
    }""")
    check("the focus is seen", visible)
    page.keyboard.press("Enter")
    expect(view.opened_dialog()).to_contain_text("1 queue will be paused")
    page.keyboard.press("Enter")
    view.until(lambda _: emq.call("GET", "/stats/keys-b")["paused"], "Enter pauses the queue")
    check("only the selected one", not emq.call("GET", "/stats/keys-a")["paused"])
    emq.call("POST", "/resume/keys-b")
    for name in "keys-a", "keys-b":
        emq.call("POST", f"/purge/{name}")
