// What the page asks of the server, and failures as sentences a person can act on. No DOM here.
//
// ServerError.kind: 'key' (401), 'context' (prompt too long), 'busy' (503, retryAfter seconds or null), 'network', 'broken' (the stream ended
// early), 'refused' (the server said no to this request), 'failed' (its own fault).
// SPDX-License-Identifier: Apache-2.0
import {events} from './stream.js';

export class ServerError extends Error {
  constructor(kind, message, retryAfter = null) {
    super(message);
    this.kind = kind;
    this.retryAfter = retryAfter;
  }
}

// The key stays in this tab: it is gone when the tab is closed.
let memoryKey = '';
export function apiKey() {
  try { return sessionStorage.getItem('wattle.key') || memoryKey; } catch { return memoryKey; }
}
export function setApiKey(key) {
  memoryKey = key.trim();
  try { sessionStorage.setItem('wattle.key', memoryKey); } catch { /* kept in memory */ }
}

function headers(json) {
  const all = json ? {'Content-Type': 'application/json'} : {};
  if (apiKey()) all.Authorization = 'Bearer ' + apiKey();
  return all;
}

const UNREACHABLE = 'The server cannot be reached. It may have been stopped, or the network is down.';

function sentence(text) {
  const trimmed = String(text || '').trim().slice(0, 400);
  return trimmed && !/[.!?]$/.test(trimmed) ? trimmed + '.' : trimmed;
}

function errorOf(status, error, retryAfter) {
  const said = sentence(error && error.message);
  const type = String((error && error.type) || '') + ' ' + String((error && error.code) || '');
  if (status === 401) return new ServerError('key', 'This server asks for an API key.');
  if (/context/.test(type)) {
    const size = error.n_ctx ? ` (${error.n_prompt_tokens || 'too many'} tokens, and there is room for ${error.n_ctx})` : '';
    return new ServerError('context', `This conversation no longer fits into the model's context${size}. Start a new one, or shorten an earlier message.`);
  }
  if (status === 503) {
    const loading = /loading/i.test(said), stopping = /shutting down|draining/i.test(said);
    const what = loading ? 'The model is still being loaded.' : stopping ? 'The server is shutting down.' : 'The server is busy with other requests.';
    return new ServerError('busy', what, retryAfter);
  }
  if (status === 429) return new ServerError('busy', 'Too many requests.', retryAfter);
  if (status >= 500) return new ServerError('failed', 'The server failed: ' + (said || `status ${status}.`));
  return new ServerError('refused', 'The server refused this request: ' + (said || `status ${status}.`));
}

async function check(response) {
  if (response.ok) return response;
  let body = null;
  try { body = await response.json(); } catch { /* a proxy's page */ }
  const seconds = Number.parseInt(response.headers.get('Retry-After') || '', 10);
  throw errorOf(response.status, body && body.error, Number.isFinite(seconds) && seconds >= 0 ? Math.min(seconds, 3600) : null);
}

async function ask(path, init) {
  let response;
  try {
    response = await fetch(path, {cache: 'no-store', ...init});
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ServerError('network', UNREACHABLE);
  }
  return check(response);
}

export async function model() {
  const list = await (await ask('v1/models', {headers: headers(false)})).json();
  return (list.data && list.data[0]) || null;
}

export async function settledEnergy(id) {
  const body = await (await ask('v1/energy/' + encodeURIComponent(id), {headers: headers(false)})).json();
  return body && body.energy ? body.energy : body;
}

// Watts of the machine now: the sum of the outermost domains is not ours to know, so they stay apart: [[domain, watts], ...].
export async function watts() {
  const text = await (await ask('metrics', {headers: headers(false)})).text();
  const found = [];
  for (const match of text.matchAll(/^wattle_power_watts\{[^}]*domain="((?:[^"\\]|\\.)*)"[^}]*\} ([0-9.eE+-]+)/gm)) {
    const value = Number(match[2]);
    if (Number.isFinite(value) && value >= 0) found.push([match[1], value]);
  }
  return found;
}

// One streamed answer. on.text(piece), on.reasoning(piece), on.id(id), on.finish(reason, detail), on.usage(usage, energy).
// Resolves when the server said it is done; throws ServerError, or AbortError when signal fired.
export async function chat(request, on, signal) {
  const response = await ask('v1/chat/completions', {
    method: 'POST', headers: headers(true), signal,
    body: JSON.stringify({...request, stream: true, stream_options: {include_usage: true}}),
  });
  let done = false, finished = false, id = null;
  try {
    for await (const payload of events(response)) {
      if (payload === '[DONE]') { done = true; break; }
      let chunk;
      try { chunk = JSON.parse(payload); } catch { throw new ServerError('broken', 'The server sent something that is not a chat answer.'); }
      if (chunk.error) throw errorOf(Number(chunk.error.code) || 500, chunk.error, null);
      if (chunk.id && chunk.id !== id) on.id(id = String(chunk.id));
      const choice = chunk.choices && chunk.choices[0];
      if (choice && choice.delta) {
        if (typeof choice.delta.reasoning_content === 'string' && choice.delta.reasoning_content) on.reasoning(choice.delta.reasoning_content);
        if (typeof choice.delta.content === 'string' && choice.delta.content) on.text(choice.delta.content);
      }
      if (choice && choice.finish_reason) { finished = true; on.finish(choice.finish_reason, choice.stop_reason || null); }
      if (chunk.usage) on.usage(chunk.usage, chunk.usage.energy || chunk.energy || null);
    }
  } catch (error) {
    if (error.name === 'AbortError' || error instanceof ServerError) throw error;
    throw new ServerError('broken', 'The connection was lost in the middle of the answer; what had arrived is kept.');
  }
  if (!done && !finished) throw new ServerError('broken', 'The connection was lost in the middle of the answer; what had arrived is kept.');
}
