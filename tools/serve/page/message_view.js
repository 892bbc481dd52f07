// One message on the page. User text is shown as it was typed; a model's text through markdown.js; its reasoning folded away. The view follows
// a growing message through update(), at most once per frame and never for more than a fraction of the time.
// SPDX-License-Identifier: Apache-2.0
import {el, visibleText, copyText} from './dom.js';
import {MarkdownView} from './markdown.js';
import {energyChip, energyPanel, liveChip, caption} from './energy_panel.js';
import {wattsChart} from './watts.js';

let counter = 0;

function copyButton(text) {
  const button = el('button', {type: 'button', class: 'quiet'}, 'Copy');
  button.addEventListener('click', async () => {
    button.textContent = (await copyText(text())) ? 'Copied' : 'Not possible';
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  });
  return button;
}

// on.edit(text): the message is to be sent anew with this text; `after` says how many messages that replaces.
export class UserView {
  constructor(message, on) {
    this.message = message;
    this.on = on;
    this.body = el('div', {class: 'text', dir: 'auto'}, visibleText(message.content));
    this.tools = el('div', {class: 'tools'}, el('button', {type: 'button', class: 'quiet', onclick: () => this.edit()}, 'Edit'), copyButton(() => message.content));
    this.root = el('article', {class: 'message user'}, el('h3', {class: 'sr-only'}, 'You'), this.body, this.tools);
  }
  edit() {
    const after = this.on.after();
    const id = `edit-${++counter}`;
    const area = el('textarea', {id, dir: 'auto', rows: String(Math.min(10, this.message.content.split('\n').length + 1)), value: this.message.content});
    const close = () => {
      form.replaceWith(this.body);
      this.tools.hidden = false;
      this.tools.firstElementChild.focus();
    };
    const send = () => { if (area.value.trim()) this.on.edit(area.value); };
    const hint = after > 0 ? `Sending replaces the ${after === 1 ? 'message' : `${after} messages`} after this one.` : '';
    const form = el('div', {class: 'edit'}, el('label', {class: 'sr-only', for: id}, 'Edit this message'), area,
      el('div', {class: 'edit-foot'}, el('span', {class: 'hint'}, hint), el('button', {type: 'button', class: 'plain', onclick: close}, 'Cancel'), el('button', {type: 'button', class: 'primary', onclick: send}, 'Send')));
    area.addEventListener('keydown', (event) => {
      if (event.isComposing) return;
      if (event.key === 'Escape') { event.stopPropagation(); close(); }
      if (event.key === 'Enter' && !event.shiftKey) { event.preventDefault(); send(); }
    });
    this.body.replaceWith(form);
    this.tools.hidden = true;
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }
}

const FINISHES = {length: 'Stopped at the limit of tokens.', context: 'Stopped: the context is full.', energy: 'Stopped at the energy limit.', content_filter: 'Stopped by a filter.'};

function finishNote(message) {
  if (message.stopped) return 'Stopped by you.';
  if (message.finish && message.finish !== 'stop') return FINISHES[message.stop] || FINISHES[message.finish] || null;
  return null;
}

// on.retry(): generate this answer again. settings(): current settings.
export class AnswerView {
  constructor(message, on) {
    this.message = message;
    this.on = on;
    this.id = `panel-${++counter}`;
    this.body = el('div', {class: 'text'});
    this.markdown = new MarkdownView(this.body);
    this.reasoning = el('details', {class: 'reasoning', hidden: true}, el('summary', {}, 'Reasoning'), el('div', {class: 'text', dir: 'auto'}));
    this.foot = el('div', {class: 'foot'});
    this.extra = el('div', {class: 'extra'});
    this.root = el('article', {class: 'message assistant'}, el('h3', {class: 'sr-only'}, 'Answer'), this.reasoning, this.body, this.foot, this.extra);
    this.frame = 0;
    this.busyUntil = 0;
  }
  // Draws soon; drawing takes at most about a fifth of the time however long the text has become.
  update() {
    if (this.frame) return;
    const wait = Math.max(0, this.busyUntil - performance.now());
    const draw = () => { this.frame = requestAnimationFrame(() => { this.frame = 0; this.draw(); }); };
    if (wait < 20) draw();
    else this.frame = setTimeout(draw, wait);
  }
  draw() {
    const began = performance.now();
    this.drawText();
    this.busyUntil = performance.now() + Math.min(1500, 4 * (performance.now() - began));
    this.on.drawn();
  }
  drawText() {
    const {message} = this;
    this.markdown.show(message.content);
    if (message.reasoning) {
      this.reasoning.hidden = false;
      this.reasoning.lastElementChild.replaceChildren(visibleText(message.reasoning));
    }
    this.root.classList.toggle('waiting', Boolean(message.running && !message.content && !message.reasoning));
    this.root.classList.toggle('running', Boolean(message.running));
  }
  // While it runs: an estimate (joules or null) and the chart so far.
  live(estimate, seconds) {
    if (!this.message.running) return;
    this.foot.replaceChildren(estimate === null ? '' : liveChip(estimate));
    const chart = (this.message.samples || []).length > 1 ? wattsChart(this.message, seconds) : null;
    this.extra.replaceChildren(chart ? el('figure', {class: 'live-chart'}, chart, caption(this.message)) : '');
  }
  // When it has ended, and when its figure has settled. The panel stays open if it was.
  finish(settings, isLast) {
    const {message} = this;
    this.drawText();
    const open = this.extra.querySelector('.panel') !== null, focused = this.foot.contains(document.activeElement) ? document.activeElement.className : '';
    const chip = message.usage || message.energy ? energyChip(message, this.id) : null;
    const note = finishNote(message);
    this.foot.hidden = !chip && !note && !message.content && Boolean(message.error);
    this.foot.replaceChildren(...[chip, note && el('span', {class: 'note'}, note), el('span', {class: 'grow'}), message.content ? copyButton(() => message.content) : null,
      isLast && !message.error ? el('button', {type: 'button', class: 'quiet retry', onclick: () => this.on.retry()}, 'Retry') : null].filter(Boolean));
    const toggle = (show) => {
      chip.setAttribute('aria-expanded', String(show));
      this.extra.replaceChildren(...this.problem(), ...(show ? [energyPanel(message, this.id, settings)] : []));
    };
    if (chip) {
      chip.addEventListener('click', () => {
        toggle(chip.getAttribute('aria-expanded') !== 'true');
        this.extra.scrollIntoView({block: 'nearest'});
        chip.scrollIntoView({block: 'nearest'});
      });
      toggle(open);
      if (focused.includes('chip')) chip.focus();
    } else {
      this.extra.replaceChildren(...this.problem());
    }
  }
  problem() {
    const error = this.message.error;
    if (!error) return [];
    const wait = error.retryAfter ? ` It asks to wait ${error.retryAfter === 1 ? 'a second' : error.retryAfter + ' seconds'}.` : '';
    const act = error.kind === 'key' ? el('button', {type: 'button', class: 'plain', onclick: () => this.on.key()}, 'Enter the key')
      : error.kind === 'context' ? el('button', {type: 'button', class: 'plain', onclick: () => this.on.fresh()}, 'New conversation')
      : el('button', {type: 'button', class: 'plain', onclick: () => this.on.retry()}, 'Try again');
    return [el('div', {class: 'failure', role: 'alert'}, el('p', {dir: 'auto'}, visibleText(error.message + wait)), act)];
  }
}
