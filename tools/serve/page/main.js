// The page: one conversation on screen, the list beside it, one answer at a time. Owns the state; the other modules draw, store and ask.
// SPDX-License-Identifier: Apache-2.0
import * as api from './api.js';
import * as store from './store.js';
import {el, plainText} from './dom.js';
import {total, nextTurn, joules, kind, chipText, equivalent} from './energy.js';
import {showList, drawer} from './list.js';
import {openSettings, confirmDialog} from './settings.js';
import {UserView, AnswerView} from './message_view.js';
import {Announcer} from './announce.js';
import {newAnswer, guessTokens, requestOf, runTurn, liveJoules, learn} from './turn.js';

const $ = (id) => document.getElementById(id);
const announcer = new Announcer($('announce'));
const side = drawer($('side'), $('side-open'), $('side-close'), $('veil'), $('main'));
const state = {chat: store.newChat(), views: [], turn: null, model: '', followEnd: true};

// ---- Notices ---------------------------------------------------------------------------------------------------------
let noticeTimer = 0;
function notice(text) {
  $('notice').replaceChildren(el('span', {}, text), el('button', {type: 'button', class: 'icon', 'aria-label': 'Close this notice', onclick: () => { $('notice').hidden = true; }}, '✕'));
  $('notice').hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { $('notice').hidden = true; }, 15000);
}
store.onNotice(notice);

// ---- Scrolling: follows the end until the reader goes elsewhere ---------------------------------------------------------
const scroll = $('scroll');
const below = () => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight;
function toEnd() {
  if (state.followEnd) scroll.scrollTop = scroll.scrollHeight;
  $('latest').hidden = below() < 300;
}
scroll.addEventListener('scroll', () => {
  state.followEnd = below() < 60;
  $('latest').hidden = below() < 300;
});
$('latest').addEventListener('click', () => {
  state.followEnd = true;
  toEnd();
  $('input').focus();
});

// ---- Drawing ---------------------------------------------------------------------------------------------------------
const answers = (chat) => chat.messages.filter((m) => m.role === 'assistant');

function drawTotal() {
  const done = answers(state.chat).filter((m) => !m.running && (m.content || m.reasoning || m.energy)).map((m) => m.energy || null);
  const sum = total([...done, ...state.chat.discarded], state.chat.discarded.length);
  $('total').hidden = !sum.text;
  $('total').className = sum.soft ? 'soft' : '';
  const same = store.settings().equivalents && sum.sum ? equivalent(sum.sum) : null;
  $('total').textContent = sum.text ? `This conversation: ${sum.text}${same ? ` (${sum.soft ? '≈ ' : ''}${same.slice(2)})` : ''}` : '';
}

// An estimate, and said to be one: hidden while nothing is known of this model.
function drawNext() {
  const last = answers(state.chat).findLast((m) => m.usage);
  const draft = $('input').value.trim();
  const cost = last && !state.turn ? nextTurn(store.costs(state.model), last.usage.prompt + last.usage.completion, draft ? guessTokens(draft) + 8 : 30, last.usage.completion) : null;
  $('next').hidden = !cost;
  if (!cost) return;
  $('next').replaceChildren('Next turn, estimated: ', el('b', {}, `≈ ${joules(cost.kept, 2)}`), ' with the context cached, ', el('b', {}, `≈ ${joules(cost.dropped, 2)}`), ' without');
  $('next').title = `From the last answers' joules per token and an answer as long as the last one.${cost.cachedKnown ? '' : ' What cached tokens cost is not known yet and left out.'}`;
}

function drawHead() {
  const title = state.chat.messages.length ? store.titleOf(state.chat) : 'New conversation';
  $('title').textContent = title;
  document.title = state.chat.messages.length ? `${title} · wattle` : 'wattle';
  $('export').hidden = !state.chat.messages.length;
  $('empty').hidden = state.chat.messages.length > 0;
  $('send').hidden = state.turn !== null;
  $('stop').hidden = state.turn === null;
}

function drawList() {
  showList($('list'), store.list(), state.chat.id, {open: openChat, remove: removeChat});
}

function viewOf(message) {
  if (message.role === 'user') {
    return new UserView(message, {
      after: () => state.chat.messages.length - state.chat.messages.indexOf(message) - 1,
      edit: (text) => edit(message, text),
    });
  }
  return new AnswerView(message, {
    retry: () => retry(message), drawn: toEnd, fresh: newChat,
    key: () => openSettings($('settings'), settingsChanged, 'set-key'),
  });
}

function finishViews() {
  const last = state.views[state.views.length - 1];
  for (const view of state.views) if (view instanceof AnswerView && !view.message.running) view.finish(store.settings(), view === last);
}

function drawAll() {
  state.views = state.chat.messages.map(viewOf);
  $('log').replaceChildren(...state.views.map((view) => view.root));
  finishViews();
  drawHead();
  drawTotal();
  drawNext();
  drawList();
  state.followEnd = true;
  toEnd();
}

function settingsChanged() {
  finishViews();
  drawTotal();
  connect();
}

// ---- Conversations -----------------------------------------------------------------------------------------------------
function show(chat) {
  if (state.turn) state.turn.stop();
  state.turn = null;
  state.chat = chat;
  drawAll();
  side.close();
  $('input').focus();
}
function newChat() { show(store.newChat()); }
function openChat(id) {
  const chat = id === state.chat.id ? state.chat : store.load(id);
  if (chat === state.chat) { side.close(); return; }
  if (chat) show(chat);
  else { notice('This conversation is no longer there.'); drawList(); }
}
async function removeChat(id, title) {
  if (!(await confirmDialog($('confirm'), 'Delete this conversation?', `“${title}” is removed from this browser. It cannot be brought back.`, 'Delete'))) return;
  store.remove(id);
  if (id === state.chat.id) newChat();
  else drawList();
}
function exportChat() {
  const file = new Blob([JSON.stringify({...state.chat, model: state.model, exported: new Date().toISOString()}, null, 2)], {type: 'application/json'});
  const link = el('a', {href: URL.createObjectURL(file), download: `${store.titleOf(state.chat).replace(/[^\p{L}\p{N}]+/gu, '-').slice(0, 40) || 'conversation'}.json`});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// ---- Turns -------------------------------------------------------------------------------------------------------------
// Cuts the conversation; the joules of what falls away stay in its total.
function truncate(n) {
  const gone = state.chat.messages.splice(n);
  for (const message of gone) if (message.role === 'assistant' && (message.content || message.reasoning || message.energy)) state.chat.discarded.push(message.energy || null);
  for (const view of state.views.splice(n)) view.root.remove();
}

function add(message) {
  state.chat.messages.push(message);
  const view = viewOf(message);
  state.views.push(view);
  $('log').append(view.root);
  return view;
}

function send() {
  const text = $('input').value;
  if (!text.trim() || state.turn) return;
  $('input').value = '';
  grow();
  add({role: 'user', content: text});
  generate();
}
// What an edit or a retry replaces must have ended first: its joules are counted then.
async function ended() {
  const {turn} = state;
  if (!turn) return;
  turn.stop();
  await turn.ended;
}
async function edit(message, text) {
  await ended();
  truncate(state.chat.messages.indexOf(message));
  add({role: 'user', content: text});
  generate();
  $('input').focus();
}
async function retry(message) {
  await ended();
  truncate(state.chat.messages.indexOf(message));
  generate();
  $('input').focus();
}

function generate() {
  const {chat} = state;
  const settings = store.settings();
  const request = requestOf(chat.messages, settings, chat.id);
  const message = newAnswer();
  const view = add(message);
  const cost = store.costs(state.model);
  const promptTokens = guessTokens(chat.messages.findLast((m) => m.role === 'user').content);
  let saved = performance.now(), over = null;
  const live = () => view.live(liveJoules(message, cost, promptTokens), (Date.now() - message.started) / 1000);
  const shown = () => state.chat === chat;
  const turn = runTurn(message, request, {
    text: () => {
      view.update();
      live();
      announcer.follow(message.content);
      if (performance.now() - saved > 3000) { saved = performance.now(); keep(chat); }
    },
    watts: () => { live(); toEnd(); },
    end: () => {
      delete message.running;
      if (state.turn === turn) state.turn = null;
      learn(message, state.model);
      keep(chat);
      if (shown()) {
        finishViews();
        drawHead();
        drawNext();
        drawTotal();
        drawList();
        toEnd();
        announcer.finish(message.content, message.error ? '' : message.stopped ? 'Stopped.' : `End of the answer${kind(message.energy) === 'unknown' ? '' : ', ' + chipText(message.energy)}.`);
      }
      over();
    },
    energy: () => {
      learn(message, state.model);
      keep(chat);
      if (!shown()) return;
      finishViews();
      drawTotal();
      drawNext();
    },
  });
  turn.ended = new Promise((resolve) => { over = resolve; });
  state.turn = turn;
  announcer.reset();
  announcer.say('The answer begins.');
  finishViews();
  view.drawText();
  state.followEnd = true;
  drawHead();
  drawNext();
  keep(chat);
  drawList();
  toEnd();
}

// A conversation that was deleted meanwhile stays deleted.
function keep(chat) {
  if (chat !== state.chat && !store.list().some((entry) => entry.id === chat.id)) return;
  store.save(chat);
}

function stop() {
  if (state.turn) state.turn.stop();
  $('input').focus();
}

// ---- Input -------------------------------------------------------------------------------------------------------------
function grow() {
  const input = $('input');
  input.style.height = 'auto';
  input.style.height = `${Math.min(input.scrollHeight + 2, window.innerHeight * 0.4)}px`;
}
$('input').addEventListener('input', () => { grow(); drawNext(); });
$('input').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && state.turn && !document.querySelector('dialog[open]')) stop();
});
$('send').addEventListener('click', () => { send(); $('input').focus(); });
$('stop').addEventListener('click', stop);
$('new').addEventListener('click', newChat);
$('export').addEventListener('click', exportChat);
$('settings-open').addEventListener('click', () => openSettings($('settings'), settingsChanged));
window.addEventListener('pagehide', () => { if (state.turn) keep(state.chat); });
store.onOtherTab(drawList);

// ---- Start -------------------------------------------------------------------------------------------------------------
let connecting = 0;
async function connect() {
  clearTimeout(connecting);
  try {
    const model = await api.model();
    state.model = model ? String(model.id) : '';
    const size = model && model.meta && model.meta.n_ctx ? ` · context ${model.meta.n_ctx}` : '';
    $('model').textContent = plainText(state.model) + size;
    $('model').className = '';
    drawNext();
  } catch (error) {
    $('model').textContent = error.kind === 'network' ? 'The server cannot be reached' : error.message;
    $('model').className = 'problem';
    connecting = setTimeout(connect, error.kind === 'busy' ? 2000 : 10000);
  }
}

const newest = store.list()[0];
const chat = newest && location.hash !== '#new' ? store.load(newest.id) : null;
if (chat) {
  for (const message of chat.messages) {
    if (!message.running) continue;
    delete message.running;
    message.error = {kind: 'broken', message: 'The page was closed in the middle of this answer; what had arrived is kept.'};
  }
  state.chat = chat;
}
drawAll();
grow();
connect();
$('input').focus();
