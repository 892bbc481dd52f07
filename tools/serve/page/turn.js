// One answer from request to settled joules. Changes the message record that it was given and says so through callbacks; draws nothing.
// SPDX-License-Identifier: Apache-2.0
import * as api from './api.js';
import {slim, costOf, kind} from './energy.js';
import {requestOptions} from './settings.js';
import * as store from './store.js';

const WATTS_MS = 1000, MAX_SAMPLES = 240;
const SETTLE_MS = [300, 700, 1500, 3000, 5000, 10000];

export function newAnswer() {
  return {role: 'assistant', content: '', reasoning: '', running: true, pieces: 0, started: Date.now(), ttft: null, ended: null, samples: []};
}

// A rough count: four characters a token, as English text has in most vocabularies.
export const guessTokens = (text) => Math.max(1, Math.ceil(text.length / 4));

export function requestOf(messages, settings, chatId) {
  const system = settings.system.trim() ? [{role: 'system', content: settings.system}] : [];
  // Answers that never began are no part of the conversation.
  const turns = messages.filter((m) => m.role === 'user' || m.content).map(({role, content}) => ({role, content}));
  return {messages: [...system, ...turns], ...requestOptions(settings), metadata: {conversation_id: chatId}};
}

// Watts once a second while the answer runs and somebody looks. The first refusal ends it: not every server shows its metrics.
function pollWatts(message, began, changed) {
  let stopped = false, timer = 0;
  async function tick() {
    if (stopped) return;
    try {
      if (!document.hidden) {
        const found = await api.watts();
        if (stopped) return;
        if (!found.length) return;
        const domain = found.find(([name]) => name === message.domain) || found.reduce((a, b) => (b[1] > a[1] ? b : a));
        message.domain = domain[0];
        message.samples.push([Math.round(performance.now() - began), Math.round(domain[1] * 100) / 100]);
        if (message.samples.length > MAX_SAMPLES) message.samples = message.samples.filter((_, i) => i % 2 === 0);
        changed();
      }
    } catch {
      return;
    }
    timer = setTimeout(tick, WATTS_MS);
  }
  tick();
  return () => { stopped = true; clearTimeout(timer); };
}

// The figure of an answer that came before the meter had caught up, or of one whose end never came.
async function settle(message, changed) {
  for (const wait of SETTLE_MS) {
    await new Promise((resolve) => setTimeout(resolve, wait));
    try {
      const energy = slim(await api.settledEnergy(message.id));
      if (!energy) return;
      message.energy = energy;
      changed();
      if (energy.settled !== false) return;
    } catch {
      return;
    }
  }
}

// Estimate of a running answer, from earlier answers of the model; null: nothing to go by.
export function liveJoules(message, cost, promptTokens) {
  if (!cost || message.pieces === 0) return null;
  return message.pieces * cost.decode + (cost.prompt ?? 0) * promptTokens;
}

// on.text(), on.watts(), on.end(), on.energy(): the message has changed. Returns {stop(), done}.
export function runTurn(message, request, on) {
  const controller = new AbortController();
  const began = performance.now();
  const ms = () => Math.round(performance.now() - began);
  const stopWatts = pollWatts(message, began, on.watts);
  const arrived = () => {
    message.pieces++;
    message.ttft ??= ms();
    on.text();
  };
  const done = (async () => {
    try {
      await api.chat(request, {
        id: (id) => { message.id = id; },
        text: (piece) => { message.content += piece; arrived(); },
        reasoning: (piece) => { message.reasoning += piece; arrived(); },
        finish: (reason, detail) => { message.finish = reason; message.stop = detail; message.ended = ms(); },
        usage: (usage, energy) => {
          const details = usage.prompt_tokens_details || {};
          message.usage = {prompt: usage.prompt_tokens, completion: usage.completion_tokens, cached: details.cached_tokens || 0};
          message.energy = slim(energy);
        },
      }, controller.signal);
    } catch (error) {
      if (error.name === 'AbortError') message.stopped = true;
      else message.error = {kind: error.kind || 'failed', message: error.message || 'Something went wrong in this page.', retryAfter: error.retryAfter || null};
    }
    stopWatts();
    message.ended ??= ms();
    message.running = false;
    if (message.samples.length < 2) message.samples = [];
    on.end();
    const open = message.id && (message.energy ? message.energy.settled === false : message.stopped && message.pieces > 0);
    if (open) await settle(message, on.energy);
  })();
  return {stop: () => controller.abort(), done};
}

// What later estimates go by.
export function learn(message, model) {
  if (!message.energy || kind(message.energy) === 'unknown') return;
  const cost = costOf(message.energy, store.costs(model));
  if (cost) store.saveCosts(model, cost);
}
