// The little Markdown that chat models write, as DOM nodes: headings, paragraphs, lists, quotes, code blocks, inline code, bold, italic.
//
// The text is untrusted. Nothing in it becomes a link, an image or any other node that could load or run something: those stay as they were
// written, so that a reader sees where an address leads. Work is linear in the text's length, whatever it holds. While a text streams in,
// only its last blocks are rebuilt (MarkdownView).
// SPDX-License-Identifier: Apache-2.0
import {el, visibleText, copyText} from './dom.js';

const MAX_CHARS = 200000;  // beyond this the text is shown without formatting
const MAX_INLINE = 20000;  // of one paragraph
const WINDOW = 2000;       // how far a closing mark may be from its opening one
const MAX_DEPTH = 4;

// ---- Inside a paragraph ---------------------------------------------------------------------------------------------
const MARKS = [['**', 'strong'], ['__', 'strong'], ['*', 'em'], ['_', 'em']];
const isSpace = (c) => c === undefined || /\s/.test(c);
const isWord = (c) => c !== undefined && /[\p{L}\p{N}]/u.test(c);

// Where the mark that opened at `at` closes; -1: it does not, and is only a character.
function closing(text, at, mark) {
  const start = at + mark.length;
  const window = text.slice(start, start + WINDOW);
  if (isSpace(window[0]) || (mark[0] === '_' && isWord(text[at - 1]))) return -1;
  for (let end = window.indexOf(mark, 1); end > 0; end = window.indexOf(mark, end + 1)) {
    const after = window[end + mark.length];
    if (isSpace(window[end - 1]) || (mark[0] === '_' && isWord(after))) continue;
    if (mark.length === 1 && (after === mark || window[end - 1] === mark)) { // part of a double mark
      end++;
      continue;
    }
    if (mark.length === 2 && after === mark[0]) return start + end + 1; // ***both***
    return start + end;
  }
  return -1;
}

function inline(text, into, depth = 0) {
  if (text.length > MAX_INLINE || depth > MAX_DEPTH) { into.append(visibleText(text)); return into; }
  let from = 0;
  const dead = new Set(); // runs of backticks that have no partner further on: not looked for again
  const flush = (to) => { if (to > from) into.append(visibleText(text.slice(from, to))); };
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '\\' && /[\\`*_{}[\]()#+\-.!>~|]/.test(text[i + 1] || '')) {
      flush(i);
      from = ++i;
    } else if (c === '`') {
      let n = 1;
      while (text[i + n] === '`') n++;
      const fence = '`'.repeat(n);
      const end = n <= 3 && !dead.has(fence) ? text.indexOf(fence, i + n) : -1;
      if (end < 0) {
        dead.add(fence);
        i += n - 1;
        continue;
      }
      flush(i);
      into.append(el('code', {dir: 'auto'}, visibleText(text.slice(i + n, end).replace(/^ (.*\S.*) $/s, '$1'))));
      from = end + n;
      i = from - 1;
    } else if (c === '*' || c === '_') {
      const found = MARKS.find(([mark]) => text.startsWith(mark, i));
      const end = closing(text, i, found[0]);
      if (end < 0) { i += found[0].length - 1; continue; }
      flush(i);
      into.append(inline(text.slice(i + found[0].length, end), el(found[1]), depth + 1));
      from = end + found[0].length;
      i = from - 1;
    }
  }
  flush(text.length);
  return into;
}

// Lines of a paragraph keep their breaks, as chat models mean them.
function paragraph(lines, into) { return inline(lines.join('\n'), into); }

// ---- Blocks ----------------------------------------------------------------------------------------------------------
const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]{0,80})$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const ITEM = /^( {0,40})([-*+•]|\d{1,9}[.)])\s+(.*)$/;
const RULE = /^ {0,3}([-*_])( *\1){2,}\s*$/;

function startsBlock(line) {
  return line.trim() === '' || FENCE.test(line) || /^ {0,3}#{1,6}\s/.test(line) || ITEM.test(line) || RULE.test(line) || /^ {0,3}>/.test(line);
}

// Cuts a text into blocks {kind, source, ...}. A fence that is not closed yet is code up to the end.
export function blocks(text) {
  if (text.length > MAX_CHARS) return [{kind: 'raw', source: text}];
  const lines = text.replace(/\r\n?/g, '\n').split('\n').map((line) => (line.includes('\t') ? line.replace(/^\t+/, (tabs) => '    '.repeat(tabs.length)) : line));
  const out = [];
  for (let i = 0; i < lines.length;) {
    const start = i, line = lines[i];
    const fence = line.length < 400 && FENCE.exec(line);
    const push = (block) => out.push({...block, source: lines.slice(start, i).join('\n')});
    if (line.trim() === '') {
      i++;
    } else if (fence) {
      const close = new RegExp(`^ {0,3}\\${fence[1][0]}{${fence[1].length},}\\s*$`);
      for (i++; i < lines.length && !close.test(lines[i]);) i++;
      const code = lines.slice(start + 1, i);
      i = Math.min(i + 1, lines.length);
      push({kind: 'code', language: fence[2].trim().split(/\s/)[0], code: code.join('\n')});
    } else if (line.length < 2000 && HEADING.test(line)) {
      const [, marks, title] = HEADING.exec(line);
      i++;
      push({kind: 'heading', level: marks.length, lines: [title]});
    } else if (line.length < 400 && RULE.test(line)) {
      i++;
      push({kind: 'rule'});
    } else if (ITEM.test(line)) {
      const items = [];
      for (; i < lines.length; i++) {
        const item = ITEM.exec(lines[i]);
        if (item) items.push({indent: item[1].length, number: /^\d/.test(item[2]) ? Number.parseInt(item[2], 10) : null, lines: [item[3]]});
        else if (lines[i].trim() === '' ? !(ITEM.test(lines[i + 1] || '')) : startsBlock(lines[i]) && !/^ {2,}/.test(lines[i])) break;
        else if (lines[i].trim() !== '') items[items.length - 1].lines.push(lines[i].trim());
      }
      push({kind: 'list', items});
    } else if (/^ {0,3}>/.test(line)) {
      const inner = [];
      for (; i < lines.length && /^ {0,3}>/.test(lines[i]); i++) inner.push(lines[i].replace(/^ {0,3}> ?/, ''));
      push({kind: 'quote', lines: inner});
    } else {
      for (i++; i < lines.length && !startsBlock(lines[i]);) i++;
      push({kind: 'paragraph', lines: lines.slice(start, i)});
    }
  }
  return out;
}

function codeBlock(block) {
  const label = block.language && /^[\w+#.-]{1,20}$/.test(block.language) ? block.language : 'code';
  const copy = el('button', {type: 'button', class: 'quiet', 'aria-label': 'Copy this code'}, 'Copy');
  copy.addEventListener('click', async () => {
    copy.textContent = (await copyText(block.code)) ? 'Copied' : 'Not possible';
    setTimeout(() => { copy.textContent = 'Copy'; }, 1500);
  });
  return el('div', {class: 'code'}, el('div', {class: 'code-head'}, el('span', {}, label), copy),
    el('pre', {tabindex: '0', role: 'region', 'aria-label': label === 'code' ? 'Code' : 'Code, ' + label}, el('code', {dir: 'ltr'}, visibleText(block.code))));
}

function listNode(items) {
  const make = (item) => {
    const ordered = item.number !== null;
    return el(ordered ? 'ol' : 'ul', {dir: 'auto', start: ordered && item.number !== 1 ? Math.min(item.number, 99999999) : null});
  };
  const root = make(items[0]);
  const stack = [{node: root, indent: items[0].indent}];
  for (const item of items) {
    while (stack.length > 1 && item.indent < stack[stack.length - 1].indent) stack.pop();
    const top = stack[stack.length - 1];
    if (item.indent > top.indent + 1 && stack.length < 6 && top.node.lastElementChild) {
      const nested = make(item);
      top.node.lastElementChild.append(nested);
      stack.push({node: nested, indent: item.indent});
    }
    stack[stack.length - 1].node.append(paragraph(item.lines, el('li')));
  }
  return root;
}

function blockNode(block) {
  switch (block.kind) {
    case 'code': return codeBlock(block);
    case 'heading': return paragraph(block.lines, el('h' + Math.min(block.level + 2, 6), {dir: 'auto'}));
    case 'rule': return el('hr');
    case 'list': return listNode(block.items);
    // A list's and a quote's direction is that of their text; one more dir inside would hide it from the outer one.
    case 'quote': return el('blockquote', {dir: 'auto'}, paragraph(block.lines, el('p')));
    case 'raw': return el('p', {class: 'raw', dir: 'auto'}, visibleText(block.source));
    default: return paragraph(block.lines, el('p', {dir: 'auto'}));
  }
}

// Shows a growing text in `root`: blocks whose source did not change keep their nodes (and the reader's selection in them).
export class MarkdownView {
  constructor(root) {
    this.root = root;
    this.shown = [];
  }
  show(text) {
    const next = blocks(text);
    let same = 0;
    while (same < next.length && same < this.shown.length && next[same].source === this.shown[same].source && next[same].kind === this.shown[same].kind) same++;
    for (const old of this.shown.splice(same)) old.node.remove();
    for (const block of next.slice(same)) {
      const node = blockNode(block);
      this.root.append(node);
      this.shown.push({source: block.source, kind: block.kind, node});
    }
  }
}
