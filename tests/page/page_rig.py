# What the page's test stands on: a browser that notes everything that must not happen, checks that are counted, and the few gestures of a user.
# SPDX-License-Identifier: Apache-2.0
import os
import shutil
import time

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 360, "height": 740}

# Ratio of contrast (WCAG 2) of each visible text to the colour behind it; [selector-like name, ratio, colours] of those below the limit.
CONTRAST = """() => {
  const parse = (c) => { const n = c.match(/[\\d.]+/g).map(Number); return c.startsWith('color(') ? [n[0]*255, n[1]*255, n[2]*255, n[3] ?? 1] : [n[0], n[1], n[2], n[3] ?? 1]; };
  const over = (a, b) => [0,1,2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const lum = (c) => { const [r,g,b] = c.slice(0,3).map((v) => { v /= 255; return v <= .03928 ? v/12.92 : ((v+.055)/1.055)**2.4; }); return .2126*r + .7152*g + .0722*b; };
  const ratio = (a, b) => { const [x, y] = [lum(a), lum(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
  const ground = (node) => { const chain = []; for (let n = node; n; n = n.parentElement) chain.unshift(parse(getComputedStyle(n).backgroundColor));
    return chain.reduce((below, c) => over(c, below), [255,255,255,1]); };
  const bad = []; let n = 0;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !node.checkVisibility({opacityProperty: true, visibilityProperty: true}) || node.closest('.sr-only, script, noscript, .skip, [inert]')) continue;
    if (node.closest('svg') === null || node.tagName === 'text') {
      const style = getComputedStyle(node);
      const back = ground(node.closest('svg') || node);
      const r = ratio(over(parse(node.tagName === 'text' ? style.fill : style.color), back), back);
      n++;
      if (r < 4.5) bad.push(`${node.tagName}.${node.className.baseVal ?? node.className} "${walk.currentNode.data.trim().slice(0, 20)}" ${r.toFixed(2)}`);
    }
  }
  return {n, bad};
}"""

# Elements of the page that reach beyond the window, and whether the page or its scroll area could be moved sideways.
SIDEWAYS = """() => {
  const out = [];
  for (const node of [document.scrollingElement, document.getElementById('scroll'), document.getElementById('side'), ...document.querySelectorAll('dialog[open]')])
    if (node.scrollWidth > node.clientWidth + 0.5 && getComputedStyle(node).visibility !== 'hidden') out.push(`${node.id || node.tagName} ${node.scrollWidth} > ${node.clientWidth}`);
  if (document.scrollingElement.scrollWidth > innerWidth) out.push('window');
  const log = document.getElementById('log').getBoundingClientRect();
  for (const node of document.querySelectorAll('#log *, #total, #next')) {
    if (node.closest('pre, .sr-only, svg') && node.tagName !== 'PRE') continue;
    const box = node.getBoundingClientRect();
    if (box.width && (box.right > Math.max(innerWidth, log.right) + 1 || box.left < -1)) out.push(`${node.tagName}.${node.className} ${Math.round(box.left)}..${Math.round(box.right)}`);
  }
  return out.slice(0, 5);
}"""


class Checks:
    def __init__(self):
        self.passed, self.failed = 0, []

    def ok(self, condition, what):
        if condition:
            self.passed += 1
        else:
            self.failed.append(what)
            print(f"FAILED: {what}")
        return condition

    def equal(self, got, want, what):
        return self.ok(got == want, f"{what}: got {got!r}, want {want!r}")


class Page:
    """A page in a fresh browser profile. errors: console errors, exceptions, dialogs and requests to anywhere else."""

    def __init__(self, browser, url, checks, viewport=WIDE, scheme="light", expected=()):
        self.url, self.checks, self.expected = url, checks, list(expected)
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce", locale="en-GB")
        self.context.add_init_script("window.violations = []; document.addEventListener('securitypolicyviolation', (e) => window.violations.push(e.violatedDirective + ' ' + e.blockedURI));")
        self.tab = self.context.new_page()
        self.errors = []
        self.tab.set_default_timeout(8000)
        self.tab.on("console", lambda m: m.type in ("error", "warning") and not any(e in m.text for e in self.expected) and self.errors.append("console: " + m.text))
        self.tab.on("pageerror", lambda e: self.errors.append(f"exception: {e}"))
        self.tab.on("dialog", lambda d: (self.errors.append("dialog: " + d.message), d.dismiss()))
        self.tab.on("request", lambda r: r.url.startswith((url, "data:", "blob:")) or self.errors.append("request: " + r.url))
        self.tab.goto(url)
        self.until("document.getElementById('model').textContent !== 'connecting …'")

    def say(self, text, wait=True):
        self.tab.fill("#input", text)
        self.tab.press("#input", "Enter")
        if wait:
            self.wait()

    def until(self, expression, timeout=8000):
        """Asks until it holds. (playwright's own wait_for_function needs eval, which the page's policy forbids.)"""
        end = time.monotonic() + timeout / 1000
        while not self.tab.evaluate(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"never true: {expression}")
            self.tab.wait_for_timeout(25)

    def wait(self, timeout=8000):
        self.until("document.getElementById('stop').hidden && !document.querySelector('.running')", timeout)

    def texts(self, selector):
        return self.tab.eval_on_selector_all(selector, "nodes => nodes.map((n) => n.innerText.trim())")

    def count(self, selector):
        return self.tab.locator(selector).count()

    def panel(self):
        """Opens the last answer's panel; its text."""
        chip = self.tab.locator("button.chip").last
        if chip.get_attribute("aria-expanded") == "false":
            chip.click()
        return self.tab.locator(".panel").last.inner_text()

    def sideways(self, what):
        self.checks.equal(self.tab.evaluate(SIDEWAYS), [], f"{what}: nothing reaches beyond the window")

    def contrast(self, what):
        result = self.tab.evaluate(CONTRAST)
        self.checks.ok(result["n"] > 5 and not result["bad"], f"{what}: contrast of {result['n']} texts: {result['bad'][:6]}")

    def shot(self, folder, name):
        if folder:
            self.tab.screenshot(path=os.path.join(folder, name + ".png"))

    def close(self, what):
        self.checks.equal(self.errors, [], f"{what}: no errors, dialogs or foreign requests")
        self.checks.equal(self.tab.evaluate("window.violations"), [], f"{what}: no violation of the policy")
        self.context.close()
