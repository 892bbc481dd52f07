// Building DOM nodes. Text reaches the page only through here (or textContent): no string is ever parsed as HTML. Strings that come from a
// model or a user go through visibleText(), which shows characters that could mislead a reader instead of obeying them.
// SPDX-License-Identifier: Apache-2.0

export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'class') node.className = value;
    else if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked' || name === 'open' || name === 'hidden') node[name] = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ''));
  return node;
}

export function svg(tag, props = {}, ...children) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(props)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Overrides of the writing direction, characters that no font shows but that a copy or a model would read (tag characters outside of flags),
// and control characters. Direction marks and joiners stay: several scripts need them.
const HIDDEN = /(\u{1F3F4}[\u{E0020}-\u{E007E}]+\u{E007F})|[\u202A-\u202E\u2066-\u2069\u200B\u2060-\u2064\uFEFF\u{E0000}-\u{E007F}\u0000-\u0008\u000B-\u001F\u007F-\u009F]/gu;

export function visibleText(text) {
  const out = document.createDocumentFragment();
  let from = 0, run = '', runCount = 0;
  const flushRun = () => {
    if (!runCount) return;
    const label = runCount > 1 ? `${run} ×${runCount}` : run;
    out.append(el('span', {class: 'hidden-char', title: 'A character that cannot be seen and was not obeyed'}, label));
    run = '';
    runCount = 0;
  };
  for (const match of text.matchAll(HIDDEN)) {
    if (match[1] || match[0] === '\r') continue;
    const name = 'U+' + match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, '0');
    if (match.index > from || name !== run) flushRun();
    if (match.index > from) out.append(text.slice(from, match.index));
    run = name;
    runCount++;
    from = match.index + match[0].length;
  }
  flushRun();
  if (from < text.length) out.append(text.slice(from));
  return out;
}

// The same characters taken out: for the clipboard, titles and file names.
export function plainText(text) {
  return text.replace(HIDDEN, (all, flag) => flag || '');
}

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(plainText(text));
    return true;
  } catch {
    // Without HTTPS there is no clipboard object away from localhost.
    const area = el('textarea', {class: 'sr-only', value: plainText(text)});
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}
