#!/usr/bin/env python3
# The chat page in a real browser (Debian's Chromium, through playwright), by hand or where both are installed:
#   python3 tests/page/page_test.py [--screenshots FOLDER] [--url http://127.0.0.1:8080]
# Without --url everything runs against mock_server.py; with it, the parts that any server can pass. Ends with a count; exit code 1 when a check failed.
# SPDX-License-Identifier: Apache-2.0
import argparse
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import mock_server  # noqa: E402
from page_rig import CHROMIUM, NARROW, WIDE, Checks, Page  # noqa: E402

LOG = "#log > .message"


# ---- Any server ------------------------------------------------------------------------------------------------------
def three_turns(page, checks):
    for i, text in enumerate(["Say hello.", "And what is 2 + 3?", "Name a colour."]):
        page.say(text)
        checks.equal(page.count(LOG), 2 * i + 2, f"messages after turn {i + 1}")
        checks.ok(len(page.texts(".assistant > .text")[-1]) > 0, f"turn {i + 1} has an answer")
        checks.equal(page.count("button.chip"), i + 1, f"chips after turn {i + 1}")
    checks.ok("3 answers" in page.tab.inner_text("#total"), "the total counts three answers")
    checks.equal(page.count(".entry"), 1, "one conversation in the list")
    checks.equal(page.texts(".entry .open"), ["Say hello."], "it is named by its first message")


def reload(page, checks):
    before = page.texts(LOG + " > .text")
    page.tab.reload()
    page.tab.wait_for_selector(LOG)
    checks.equal(page.texts(LOG + " > .text"), before, "a reload keeps the conversation")


def retry_and_edit(page, checks):
    page.tab.click(".retry")
    page.wait()
    checks.equal(page.count(LOG), 6, "a retry replaces the last answer")
    checks.ok("4 answers (1 discarded)" in page.tab.inner_text("#total"), "its joules stay in the total: " + page.tab.inner_text("#total"))
    page.tab.locator(".user").nth(1).get_by_text("Edit").click()
    checks.ok("Sending replaces the 3 messages" in page.tab.inner_text(".edit-foot"), "an edit says what it replaces")
    page.tab.keyboard.press("Escape")
    checks.equal(page.count(".edit"), 0, "Escape leaves the edit")
    page.tab.locator(".user").nth(1).get_by_text("Edit").click()
    page.tab.fill(".edit textarea", "And what is 4 + 4?")
    page.tab.keyboard.press("Enter")
    page.wait()
    checks.equal(page.texts(".user .text"), ["Say hello.", "And what is 4 + 4?"], "an edit cuts the conversation there")
    checks.equal(page.count(LOG), 4, "and is answered")


def stop(page, checks, text="slow please"):
    page.say(text, wait=False)
    page.until("document.querySelector('.running > .text') && document.querySelector('.running > .text').innerText.length > 20")
    page.tab.keyboard.press("Escape")
    page.wait()
    checks.ok("Stopped by you." in page.texts(".foot")[-1], "an answer can be stopped")
    checks.equal(page.tab.evaluate("document.activeElement.id"), "input", "the focus is in the field again")


def any_server(browser, url, checks, shots):
    page = Page(browser, url, checks)
    three_turns(page, checks)
    page.panel()
    page.sideways("wide")
    page.contrast("light")
    page.shot(shots, "wide-light")
    reload(page, checks)
    retry_and_edit(page, checks)
    return page


# ---- The stand-in server -----------------------------------------------------------------------------------------------
def branches(page, mock, checks, shots):
    checks.equal([m["role"] for m in mock.requests[2]["messages"]], ["user", "assistant"] * 2 + ["user"], "the third request has the whole conversation")
    checks.ok(mock.requests[0]["stream"] and mock.requests[0]["stream_options"] == {"include_usage": True}, "usage is asked for")
    checks.ok("temperature" not in mock.requests[0], "empty settings are not sent")
    stop(page, checks)
    for _ in range(50):
        if mock.aborted:
            break
        time.sleep(0.05)
    checks.ok(mock.aborted >= 1, "a stop closes the connection")
    checks.ok(page.tab.evaluate("document.getElementById('next').innerText").startswith("Next turn, estimated: ≈"), "the next turn's cost is estimated")
    page.shot(shots, "stopped")


def statuses(page, checks, shots):
    page.tab.click("#new")
    expect = {
        "measured": ("measured", "J ±", ["Prefill", "Decode", "new tokens", "Tokens per joule", "Average power", "package-0 (powercap)", "CPU package", "counter", "settled"]),
        "modelled": ("modelled", "≈ ", ["Modelled, not measured", "--tdp-watts WATTS", "probably"]),
        "below": ("below", "below resolution", ["too short for the meter", " J (", " to ", "J), below resolution"]),
        "disputed": ("disputed", "disputed", ["contradict each other"]),
        "unavailable": ("unknown", "energy unknown", ["root only", "sudo chmod a+r", "decoded tokens"]),
        "replayed": ("replayed", "replayed", ["recording of a meter"]),
        "noenergy": ("unknown", "energy unknown", ["gave no energy"]),
        "money": ("measured", "J ±", ["0.0000014 EUR", "CO₂e", "380 g per kWh"]),
    }
    looks = set()
    for word, (kind, chip, inside) in expect.items():
        page.say(word)
        node = page.tab.locator("button.chip").last
        checks.ok(chip in node.inner_text(), f"{word}: the chip says {node.inner_text()!r}")
        checks.ok(kind in node.get_attribute("class").split(), f"{word}: the chip's look")
        text = page.panel()
        for part in inside:
            checks.ok(part in text, f"{word}: the panel has {part!r}, in {text!r}")
        if word == "measured":
            checks.equal(page.count(".panel svg.watts .average"), 2, "prefill and decode are in the chart")
        if word == "modelled":
            checks.ok("±" not in text and "≈" in text, "no modelled figure looks measured: " + text)
        if kind == "unknown":
            checks.ok(" 0 J" not in text and "\n0 J" not in text, f"{word}: unknown is never 0")
        looks.add(node.evaluate("n => { const s = getComputedStyle(n); return [s.borderStyle, s.borderWidth, s.color, s.backgroundColor, s.fontStyle].join() }"))
        page.shot(shots, "status-" + word)
        page.contrast(word)
    checks.equal(len(looks), 6, "six kinds of figures look different")
    total = page.tab.inner_text("#total")
    checks.ok("≈" in total and "8 answers" in total and "1 of them modelled" in total and "2 unknown" in total, "the total tells its parts: " + total)
    page.say("unsettled")
    checks.ok("not settled" in page.tab.locator("button.chip").last.inner_text() or page.tab.locator("button.chip.unsettled").count() == 0, "an estimate says so")
    page.until("!document.querySelector('.chip.unsettled')")
    checks.ok("not settled" not in page.tab.locator("button.chip").last.inner_text(), "and settles")


def failures(browser, url, mock, checks, shots):
    page = Page(browser, url, checks, expected=["503 (Service Unavailable)", "400 (Bad Request)", "401 (Unauthorized)", "net::ERR"])
    page.say("busy")
    checks.ok("busy with other requests. It asks to wait 2 seconds." in page.tab.inner_text(".failure"), "503 as a sentence: " + page.tab.inner_text(".failure"))
    page.shot(shots, "failure-busy")
    page.contrast("failure")
    page.tab.get_by_text("Try again").click()
    page.wait()
    checks.equal((page.count(".failure"), page.count(LOG)), (0, 2), "trying again helps")
    checks.ok("1 answer" in page.tab.inner_text("#total"), "a refusal is no answer: " + page.tab.inner_text("#total"))
    page.say("context")
    checks.ok("no longer fits into the model's context (9000 tokens, and there is room for 8192)" in page.tab.inner_text(".failure"), "a full context as a sentence")
    page.tab.locator(".failure").get_by_text("New conversation").click()
    checks.ok(page.tab.is_visible("#empty"), "a new conversation from there")
    for word, sentence in [("drop", "The connection was lost in the middle"), ("broken", "The server failed: the backend failed.")]:
        page.say(word)
        checks.ok(sentence in page.texts(".failure")[-1], f"{word}: {page.texts('.failure')[-1]}")
        checks.ok(len(page.texts(".assistant > .text")[-1]) > 5, f"{word}: what had arrived is kept")
    page.say("limit")
    checks.ok("limit of tokens" in page.texts(".foot")[-1], "a cut answer says so")
    page.say("joules")
    checks.ok("energy limit" in page.texts(".foot")[-1], "an answer that hit its energy limit says so")
    mock.key = "secret"
    page.say("hello")
    checks.ok("asks for an API key" in page.texts(".failure")[-1], "401 as a sentence")
    page.tab.get_by_text("Enter the key").click()
    page.tab.fill("#set-key", "secret")
    page.tab.get_by_text("Save", exact=True).click()
    page.tab.get_by_text("Try again").last.click()
    page.wait()
    checks.ok("This is the answer" in page.texts(".assistant > .text")[-1], "with the key it answers")
    checks.ok("secret" not in page.tab.evaluate("JSON.stringify(localStorage)"), "the key is not kept")
    mock.key = None
    page.context.set_offline(True)
    page.say("hello again")
    checks.ok("cannot be reached" in page.texts(".failure")[-1], "no network as a sentence")
    page.context.set_offline(False)
    page.close("failures")


def hostile(browser, url, checks, shots):
    for viewport, scheme, name in [(NARROW, "dark", "narrow-dark"), (WIDE, "light", "wide-light")]:
        page = Page(browser, url, checks, viewport, scheme)
        page.say("hostile <script>window.pwned = 9</script> \u202egnp.exe", wait=False)
        page.wait(20000)
        page.panel()
        checks.equal(page.tab.evaluate("window.pwned === undefined"), True, f"{name}: no script of the model ran")
        checks.equal(page.count("#log script, #log img, #log iframe, #log a, #log object, #log form, #log [onerror], #log [onload], #log [style]"), 0, f"{name}: no foreign nodes")
        body = page.tab.inner_text("#log")
        checks.ok("<script>window.pwned = 1</script>" in body and "](javascript:" in body, f"{name}: markup is shown as text")
        checks.ok("\u202e" not in body and "U+202E" in body and "U+E0041" in body and "U+200B" in body, f"{name}: overrides are visible")
        checks.ok("\U0001F3F4\U000E0067" in body and "👩‍👩‍👧‍👦" in body, f"{name}: emoji survive")
        checks.ok("\u202e" not in page.tab.title() and "\u202e" not in page.tab.inner_text("#side"), f"{name}: nor do they reach the title or the list")
        page.sideways(f"hostile {name}")
        page.shot(shots, "hostile-" + name)
        page.say("rtl")
        page.sideways(f"rtl {name}")
        box = page.tab.evaluate("(() => { const f = document.querySelector('.message:last-child .foot .chip').getBoundingClientRect(), l = document.getElementById('log').getBoundingClientRect(); return f.left - l.left; })()")
        checks.ok(abs(box) < 2, f"{name}: right-to-left text does not move the chip ({box})")
        page.shot(shots, "rtl-" + name)
        page.close(f"hostile {name}")


def markdown(browser, url, checks, shots):
    for viewport, scheme in [(WIDE, "dark"), (NARROW, "light")]:
        page = Page(browser, url, checks, viewport, scheme)
        name = f"{'wide' if viewport is WIDE else 'narrow'}-{scheme}"
        page.shot(shots, "empty-" + name)
        page.contrast("empty " + name)
        page.say("markdown")
        checks.equal(page.texts(".assistant > .text > h4"), ["Three things"], f"{name}: heading")
        checks.equal([page.count(".assistant " + tag) for tag in ("strong", "em", "ol > li", "ol ul > li", "blockquote", "pre code")], [1, 1, 3, 2, 1, 1], f"{name}: blocks")
        checks.ok("[link](https://example.org/)" in page.tab.inner_text(".assistant"), f"{name}: a link stays as written")
        page.contrast("markdown " + name)
        page.sideways("markdown " + name)
        page.shot(shots, "markdown-" + name)
        page.say("reason about it")
        checks.ok(page.tab.locator(".reasoning").last.is_visible() and page.tab.locator(".reasoning").last.get_attribute("open") is None, f"{name}: reasoning is folded")
        page.panel()
        page.shot(shots, "panel-" + name)
        page.sideways("panel " + name)
        page.tab.click("#settings-open")
        page.shot(shots, "settings-" + name)
        page.contrast("settings " + name)
        page.sideways("settings " + name)
        page.tab.keyboard.press("Escape")
        if viewport is NARROW:
            page.tab.click("#side-open")
            page.shot(shots, "drawer-" + name)
            page.contrast("drawer")
            page.tab.keyboard.press("Escape")
            checks.equal(page.tab.evaluate("document.activeElement.id"), "side-open", "the drawer gives the focus back")
        page.say("long")
        page.shot(shots, "long-" + name)
        page.close(name)


def keyboard(browser, url, mock, checks, shots):
    page = Page(browser, url, checks)
    tab = page.tab
    checks.equal(tab.evaluate("document.activeElement.id"), "input", "the field has the focus at the start")
    tab.keyboard.type("measured")
    tab.keyboard.press("Shift+Enter")
    tab.keyboard.type("second line")
    tab.keyboard.press("Enter")
    page.wait()
    checks.equal(mock.requests[-1]["messages"][-1]["content"], "measured\nsecond line", "Shift+Enter begins a line, Enter sends")
    reached = []
    for _ in range(40):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate("(() => { const n = document.activeElement; return n.id || n.className || n.tagName; })()"))
        outlined = tab.evaluate("(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle !== 'none' || document.activeElement === document.body || document.activeElement.id === 'input'; })()")
        checks.ok(outlined, f"the focus is visible on {reached[-1]}") if not outlined else None
        if "chip" in reached[-1]:
            tab.keyboard.press("Enter")
    for name in ["new", "open", "icon delete", "export", "settings-open", "quiet", "chip measured", "quiet retry", "send"]:
        checks.ok(name in reached, f"Tab reaches {name}: {reached}")
    checks.ok(page.count(".panel") == 1, "Enter opens the panel")
    tab.focus("#settings-open")
    tab.keyboard.press("Enter")
    tab.keyboard.type("Be brief.")
    tab.fill("#set-temperature", "7")
    tab.press("#set-temperature", "Enter")
    checks.ok(tab.is_visible("#set-problem"), "a value out of range is not taken")
    for name, value in [("temperature", "0.5"), ("top_k", "20"), ("max_tokens", "50"), ("seed", "7"), ("max_joules", "100")]:
        tab.fill("#set-" + name, value)
    tab.check("#set-equivalents")
    tab.select_option("#set-theme", "dark")
    tab.press("#set-seed", "Enter")
    checks.equal(tab.evaluate("getComputedStyle(document.documentElement).colorScheme"), "dark", "the colours can be chosen")
    checks.ok("LED bulb" in tab.inner_text(".panel") and "assuming" in tab.inner_text(".panel"), "equivalents with their assumption, when asked for")
    tab.focus("#input")
    page.say("again")
    sent = mock.requests[-1]
    checks.equal({k: sent.get(k) for k in ("temperature", "top_k", "max_tokens", "seed", "max_joules", "top_p")},
                 {"temperature": 0.5, "top_k": 20, "max_tokens": 50, "seed": 7, "max_joules": 100, "top_p": None}, "settings are sent")
    checks.equal(sent["messages"][0], {"role": "system", "content": "Be brief."}, "so is the system prompt")
    tab.reload()
    checks.equal(tab.evaluate("document.documentElement.dataset.theme"), "dark", "settings outlive a reload")
    with tab.expect_download() as download:
        tab.click("#export")
    with open(download.value.path(), encoding="utf-8") as file:
        checks.equal(len(json.load(file)["messages"]), 4, "the export holds the conversation")
    tab.focus(".entry .delete")
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#empty")
    checks.equal((page.count(".entry"), tab.evaluate("Object.keys(localStorage).filter((k) => k.startsWith('wattle.chat.')).length")), (0, 0), "a deleted conversation is gone")
    page.close("keyboard")


def storage(browser, url, checks, shots):
    page = Page(browser, url, checks, expected=["QuotaExceeded"])
    for i in range(4):
        page.tab.click("#new")
        page.say(f"conversation number {i}")
    page.tab.evaluate("""() => { let n = 100000; for (;;) { try { localStorage.setItem('filler' + n, 'x'.repeat(n)); n--; } catch { if (n < 100) break; n = Math.floor(n / 2); } if (n < 50) break; } }""")
    page.say("one more")
    checks.ok("removed to make room" in page.tab.inner_text("#notice"), "a full storage drops the oldest and says so: " + page.tab.inner_text("#notice"))
    checks.ok(page.count(".entry") < 4 and "number 3" in page.texts(".entry .open")[0], "the current conversation stays")
    page.shot(shots, "list")
    page.tab.evaluate("localStorage.setItem('wattle.index', '{broken'); localStorage.setItem('wattle.settings', '[1')")
    page.tab.reload()
    page.tab.wait_for_selector("#empty")
    page.say("still works")
    checks.equal(page.count(LOG), 2, "damaged storage is no obstacle")
    page.close("storage")


def watching(browser, url, mock, checks, shots):
    page = Page(browser, url, checks)
    page.say("measured")
    page.tab.evaluate("window.heard = []; new MutationObserver(() => window.heard.push(document.getElementById('announce').textContent)).observe(document.getElementById('announce'), {childList: true, characterData: true, subtree: true})")
    page.say("slow", wait=False)
    page.tab.wait_for_selector(".chip.live")
    checks.ok(page.tab.inner_text(".chip.live").startswith("~ ") and "so far" in page.tab.inner_text(".chip.live"), "a running answer shows an estimate")
    page.tab.wait_for_selector(".live-chart svg .line", timeout=6000)
    page.shot(shots, "running")
    page.tab.click("#stop")
    page.wait()
    heard = page.tab.evaluate("window.heard")
    checks.ok(1 <= len(heard) <= 6, f"the live region speaks seldom ({len(heard)} times)")
    page.until("document.querySelectorAll('button.chip').length === 2")
    checks.ok("J ±" in page.tab.locator("button.chip").last.inner_text(), "a stopped answer learns its joules afterwards")
    page.close("watching")
    mock.metrics = False
    page = Page(browser, url, checks, expected=["404 (Not Found)"])
    page.say("measured")
    checks.equal(page.count("button.chip"), 1, "a server without metrics is no obstacle")
    page.close("no metrics")
    mock.metrics = True


def all_parts(browser, checks, shots):
    server, mock = mock_server.start()
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    page = any_server(browser, url, checks, shots)
    branches(page, mock, checks, shots)
    statuses(page, checks, shots)
    page.close("chat")
    failures(browser, url, mock, checks, shots)
    hostile(browser, url, checks, shots)
    markdown(browser, url, checks, shots)
    keyboard(browser, url, mock, checks, shots)
    storage(browser, url, checks, shots)
    watching(browser, url, mock, checks, shots)
    server.shutdown()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", help="a running server instead of the stand-in")
    parser.add_argument("--screenshots", metavar="FOLDER")
    options = parser.parse_args()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("skipped: the Python package playwright is not installed")
        return 0
    if not os.path.exists(CHROMIUM):
        print("skipped: there is no chromium (Debian package chromium)")
        return 0
    if options.screenshots:
        os.makedirs(options.screenshots, exist_ok=True)
    checks, began = Checks(), time.monotonic()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=["--no-sandbox"])
        if options.url:
            page = any_server(browser, options.url.rstrip("/") + "/", checks, options.screenshots)
            stop(page, checks, "Write a very long story about a lighthouse.")
            page.close("chat")
        else:
            all_parts(browser, checks, options.screenshots)
        browser.close()
    print(f"{checks.passed} passed, {len(checks.failed)} failed, {time.monotonic() - began:.0f} s")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
