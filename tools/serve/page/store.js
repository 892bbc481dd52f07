// Conversations and settings in this browser (localStorage). Bounded: at most MAX_CHATS, and when the browser's room is used up the oldest
// other conversations go first; every loss is told through onNotice. Without storage everything works until the page is closed.
//
// wattle.index: [{id, title, updated}], newest first; wattle.chat.ID: {id, title, created, updated, messages, discarded}.
// SPDX-License-Identifier: Apache-2.0
import {plainText} from './dom.js';

const MAX_CHATS = 100;
const MAX_CHAT_CHARS = 1500000;
const INDEX = 'wattle.index', CHAT = 'wattle.chat.', SETTINGS = 'wattle.settings', COSTS = 'wattle.costs';

const memory = new Map();
let storage = null;
try {
  storage = window.localStorage;
  storage.setItem('wattle.probe', '1');
  storage.removeItem('wattle.probe');
} catch {
  storage = null;
}
export const isPersistent = () => storage !== null;

let notice = () => {};
export function onNotice(callback) { notice = callback; }

function read(key, fallback) {
  const text = storage ? storage.getItem(key) : memory.get(key);
  if (text === null || text === undefined) return fallback;
  try { return JSON.parse(text); } catch { return fallback; }
}

function put(key, text) {
  if (!storage) { memory.set(key, text); return true; }
  try { storage.setItem(key, text); return true; } catch { return false; }
}

function drop(key) {
  if (storage) storage.removeItem(key);
  else memory.delete(key);
}

export function list() {
  const index = read(INDEX, []);
  return Array.isArray(index) ? index.filter((entry) => entry && typeof entry.id === 'string') : [];
}

export function newChat() {
  const now = Date.now();
  const id = now.toString(36) + Math.random().toString(36).slice(2, 8);
  return {id, title: '', created: now, updated: now, messages: [], discarded: []};
}

export function load(id) {
  const chat = read(CHAT + id, null);
  if (!chat || !Array.isArray(chat.messages)) return null;
  chat.messages = chat.messages.filter((m) => m && (m.role === 'user' || m.role === 'assistant') && typeof m.content === 'string');
  chat.discarded = Array.isArray(chat.discarded) ? chat.discarded : [];
  return chat;
}

// A conversation is named by its first message.
export function titleOf(chat) {
  const first = chat.messages.find((message) => message.role === 'user');
  const line = first ? plainText(first.content).trim().split('\n')[0].slice(0, 80).trim() : '';
  return line || 'New conversation';
}

// False: it could not be kept (told by a notice).
export function save(chat) {
  chat.updated = Date.now();
  chat.title = titleOf(chat);
  const text = JSON.stringify(chat);
  if (text.length > MAX_CHAT_CHARS) {
    notice('This conversation is too long to be kept in the browser. Export it if you need it.');
    return false;
  }
  let index = [{id: chat.id, title: chat.title, updated: chat.updated}, ...list().filter((entry) => entry.id !== chat.id)];
  index.sort((a, b) => b.updated - a.updated);
  let lost = 0;
  while (index.length > MAX_CHATS) { drop(CHAT + index.pop().id); lost++; }
  while (!put(CHAT + chat.id, text) || !put(INDEX, JSON.stringify(index))) {
    const last = index.length > 1 ? index.pop() : null;
    if (!last || last.id === chat.id) {
      notice('The browser has no room left: this conversation is not being kept. Export it if you need it.');
      return false;
    }
    drop(CHAT + last.id);
    lost++;
  }
  if (lost) notice(lost === 1 ? 'The oldest conversation was removed to make room.' : `The ${lost} oldest conversations were removed to make room.`);
  return true;
}

export function remove(id) {
  drop(CHAT + id);
  put(INDEX, JSON.stringify(list().filter((entry) => entry.id !== id)));
}

export function onOtherTab(callback) {
  window.addEventListener('storage', (event) => { if (event.key === INDEX || event.key === null) callback(); });
}

export const DEFAULTS = {system: '', temperature: '', top_p: '', top_k: '', min_p: '', max_tokens: '', seed: '', max_joules: '', theme: 'auto', equivalents: false};
export function settings() { return {...DEFAULTS, ...read(SETTINGS, {})}; }
export function saveSettings(values) { put(SETTINGS, JSON.stringify(values)); }

// Last known joules per token of each model: {model: {prompt, cached, decode, modelled, tokens}}.
export function costs(model) { return read(COSTS, {})[model] || null; }
export function saveCosts(model, value) {
  const all = Object.entries(read(COSTS, {})).filter(([name]) => name !== model).slice(-19);
  put(COSTS, JSON.stringify(Object.fromEntries([...all, [model, value]])));
}
