// What a screen reader hears of a growing answer: whole sentences, every few seconds, never single tokens.
// SPDX-License-Identifier: Apache-2.0
import {plainText} from './dom.js';

const PAUSE_MS = 2500;

export class Announcer {
  constructor(root) {
    this.root = root;
    this.reset();
  }
  reset() {
    this.said = 0;
    this.last = performance.now();
  }
  say(text) { this.root.textContent = plainText(text); }
  // text: the whole answer so far.
  follow(text) {
    if (performance.now() - this.last < PAUSE_MS) return;
    const rest = text.slice(this.said);
    const end = Math.max(rest.lastIndexOf('. '), rest.lastIndexOf('\n'), rest.lastIndexOf('? '), rest.lastIndexOf('! '));
    if (end < 0) return;
    this.say(rest.slice(0, end + 1));
    this.said += end + 1;
    this.last = performance.now();
  }
  finish(text, summary) { this.say(`${text.slice(this.said)} ${summary}`.trim()); }
}
