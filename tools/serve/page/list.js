// The list of conversations, and on narrow screens the drawer that holds it.
// SPDX-License-Identifier: Apache-2.0
import {el, plainText} from './dom.js';

const DAY = 86400000;

function when(updated, now = Date.now()) {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  if (updated >= midnight) return 'Today';
  if (updated >= midnight - DAY) return 'Yesterday';
  if (updated >= midnight - 7 * DAY) return 'Last 7 days';
  return 'Earlier';
}

// on.open(id), on.remove(id)
export function showList(root, entries, current, on) {
  const focused = root.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const rows = [];
  let group = null;
  for (const entry of entries) {
    if (when(entry.updated) !== group) rows.push(el('li', {class: 'group'}, el('h2', {}, group = when(entry.updated))));
    const title = plainText(entry.title || 'New conversation');
    rows.push(el('li', {class: entry.id === current ? 'entry current' : 'entry'},
      el('button', {type: 'button', class: 'open', 'aria-current': entry.id === current ? 'page' : null, 'data-key': 'open-' + entry.id, onclick: () => on.open(entry.id)}, el('span', {dir: 'auto'}, title)),
      el('button', {type: 'button', class: 'icon delete', 'aria-label': `Delete “${title}”`, 'data-key': 'delete-' + entry.id, onclick: () => on.remove(entry.id, title)}, '✕')));
  }
  if (!rows.length) rows.push(el('li', {class: 'none'}, 'No conversations yet.'));
  root.replaceChildren(...rows);
  if (focused) (root.querySelector(`[data-key="${CSS.escape(focused)}"]`) || root.querySelector('.open') || document.getElementById('new')).focus();
}

const narrow = window.matchMedia('(max-width: 800px)');

// The drawer: hidden parts take no focus, Escape closes, the focus goes back to the button that opened it.
export function drawer(side, opener, closer, veil, main) {
  function set(open) {
    const shown = open && narrow.matches;
    side.classList.toggle('shown', shown);
    side.inert = narrow.matches && !open;
    main.inert = shown;
    veil.hidden = !shown;
    opener.setAttribute('aria-expanded', String(shown));
  }
  const close = () => {
    if (!side.classList.contains('shown')) return;
    set(false);
    opener.focus();
  };
  opener.addEventListener('click', () => { set(true); closer.focus(); });
  closer.addEventListener('click', close);
  veil.addEventListener('click', close);
  side.addEventListener('keydown', (event) => { if (event.key === 'Escape') close(); });
  narrow.addEventListener('change', () => set(false));
  set(false);
  return {close};
}
