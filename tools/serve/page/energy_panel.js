// The chip beside an answer and the panel that it opens: what the answer cost, of what kind the figure is, and where it comes from.
// SPDX-License-Identifier: Apache-2.0
import {el, svg, visibleText} from './dom.js';
import {chipText, explanation, joules, withBound, withRange, number, kind, equivalent, range, BULB_WATTS} from './energy.js';
import {wattsChart} from './watts.js';

const known = (value) => typeof value === 'number' && Number.isFinite(value);
const words = (name) => String(name).replace(/_/g, ' ').replace(/\bcpu\b/, 'CPU').replace(/\bgpu\b/, 'GPU').replace(/\bdram\b/, 'memory');

// The chip of a finished answer.
export function energyChip(message, panelId) {
  const energy = message.energy;
  const chip = el('button', {type: 'button', class: `chip ${kind(energy)}${energy && energy.settled === false ? ' unsettled' : ''}`, 'aria-expanded': 'false', 'aria-controls': panelId});
  chip.append(el('span', {class: 'sr-only'}, 'Energy: '), chipText(energy));
  return chip;
}

// While the answer runs: an estimate from earlier answers' joules per token; looks like no settled figure.
export function liveChip(value) {
  return el('span', {class: 'chip live', title: 'An estimate from earlier answers; the figure comes with the end of the answer'}, `~ ${joules(value, 1)} so far`);
}

const METHODS = {counter: 'an energy counter in the hardware', integrated: 'power readings, added up', modelled: 'computed from load, not measured', replayed: 'a recording', simulated: 'made up'};

// Parts are shown in the unit of the whole, so that they can be compared by eye.
function amount(part, soft, whole) {
  if (!known(part.joules)) return 'unknown';
  if (soft) return `≈ ${joules(part.joules, 2, whole)}`;
  if (part.status === 'below_resolution' && range(part.low_joules, part.high_joules))
    return `${withRange(part.joules, part.low_joules, part.high_joules, whole)}, below resolution`;
  return withBound(part.joules, part.bound_joules, whole);
}

function row(term, ...value) { return el('div', {class: 'row'}, el('dt', {}, term), el('dd', {dir: 'auto'}, ...value)); }
function tokens(n, what) { return known(n) ? `${n} ${what}token${n === 1 ? '' : 's'}` : null; }
const list = (parts) => parts.filter(Boolean).join(' · ');

function phaseRows(message, soft) {
  const {prefill, decode, queue} = message.energy.phases || {};
  const rows = [];
  const note = (...parts) => el('span', {class: 'note'}, list(parts));
  const seconds = (p) => (p && p.seconds > 0 ? `${number(p.seconds, 2)} s` : null);
  if (prefill) rows.push(row('Prefill', amount(prefill, soft, message.energy.energy_joules), note(tokens(prefill.tokens, 'new '), tokens(prefill.cached_tokens, 'cached '), seconds(prefill))));
  if (decode) rows.push(row('Decode', amount(decode, soft, message.energy.energy_joules), note(tokens(decode.tokens, ''), seconds(decode))));
  if (queue && queue.seconds > 0.05) rows.push(row('Waiting', note(seconds(queue), queue.joules > 0 ? amount(queue, soft, message.energy.energy_joules) : null)));
  return rows;
}

function cachedRow(energy) {
  const cached = energy.cached;
  if (!cached || !cached.tokens) return row('Cache', 'no cached tokens');
  if (!known(cached.joules_avoided)) return row('Avoided by the cache', 'unknown', el('span', {class: 'note'}, cached.reason || ''));
  return row('Avoided by the cache', el('span', {class: 'soft'}, `≈ ${joules(cached.joules_avoided, 2, energy.energy_joules)} modelled`), el('span', {class: 'note'}, `${cached.tokens} cached tokens, had they been new`));
}

function moneyRows(energy) {
  const rows = [];
  const {cost, carbon} = energy;
  if (cost && known(cost.total)) rows.push(row('Cost', `${number(cost.total, 2)} ${cost.currency || ''}`.trim()));
  if (carbon && known(carbon.gco2e)) rows.push(row('Carbon', `${number(carbon.gco2e, 2)} g CO₂e`, el('span', {class: 'note'}, list([known(carbon.intensity_gco2e_per_kwh) ? `${number(carbon.intensity_gco2e_per_kwh)} g per kWh` : null, carbon.source]))));
  return rows;
}

function sourceRows(energy) {
  const sources = [...new Set((energy.domains || []).map((d) => list([d.name, d.source ? `(${d.source})` : null]).replace(' · ', ' ')))];
  const scope = (Array.isArray(energy.scope) ? energy.scope : []).map(words).join(', ');
  return [
    row('Status', words(energy.status || 'unknown'), el('span', {class: 'note'}, energy.settled === false ? 'an estimate: the meter has not caught up' : 'settled')),
    energy.method ? row('Method', words(energy.method), el('span', {class: 'note'}, METHODS[energy.method] || '')) : null,
    sources.length || scope ? row('Source', visibleText(sources.join(', ') || scope), el('span', {class: 'note'}, sources.length ? scope : '')) : null,
  ];
}

function unknownPanel(energy) {
  const parts = [el('p', {class: 'headline'}, 'Energy unknown'), el('p', {}, visibleText(explanation(energy)))];
  const fix = energy && energy.fix;
  if (fix) parts.push(el('p', {}, 'To change that, run on the server:'), el('pre', {class: 'fix', tabindex: '0'}, el('code', {}, visibleText(String(fix)))));
  return parts;
}

function fixLine(energy) {
  if (kind(energy) !== 'modelled' || !energy.fix) return [];
  const option = energy.fix.startsWith('--');
  return [el('p', {}, option ? 'For a narrower estimate, start the server with:' : 'To measure instead, run on the server:'), el('pre', {class: 'fix', tabindex: '0'}, el('code', {}, visibleText(String(energy.fix))))];
}

// What the colours of the chart mean.
export function caption(message) {
  const key = (name) => el('span', {class: 'key'}, svg('svg', {viewBox: '0 0 10 10', 'aria-hidden': 'true'}, svg('rect', {class: `average ${name}`, width: 10, height: 10})), name);
  const line = message.samples && message.samples.length > 1 ? el('span', {}, `line: ${message.domain || 'the meter'}`) : null;
  return el('figcaption', {}, 'Watts over time', key('prefill'), key('decode'), line);
}

export function energyPanel(message, id, settings) {
  const energy = message.energy, what = kind(energy);
  const panel = el('section', {class: `panel ${what}`, id, 'aria-label': 'Energy of this answer'});
  const chart = wattsChart(message);
  if (what === 'unknown') {
    panel.append(...unknownPanel(energy));
    const usage = message.usage;
    if (usage) panel.append(el('dl', {}, row('Tokens', list([tokens(usage.prompt - usage.cached, 'new '), tokens(usage.cached, 'cached '), tokens(usage.completion, 'decoded ')]))));
  } else {
    const soft = what === 'modelled';
    const rate = energy.tokens_per_joule || {};
    const same = settings.equivalents ? equivalent(energy.energy_joules) : null;
    const approx = soft ? '≈ ' : '';
    panel.append(
      el('p', {class: 'headline'}, chipText(energy)),
      el('p', {}, visibleText(explanation(energy))),
      ...fixLine(energy),
      el('dl', {},
        ...phaseRows(message, soft),
        cachedRow(energy),
        known(rate.output) ? row('Tokens per joule', approx + number(rate.output, soft ? 2 : 3), el('span', {class: 'note'}, known(rate.total) ? `${approx}${number(rate.total, soft ? 2 : 3)} with the prompt's` : '')) : null,
        known(energy.avg_power_watts) ? row('Average power', `${approx}${number(energy.avg_power_watts, soft ? 2 : 3)} W`, el('span', {class: 'note'}, known(energy.duration_seconds) ? `over ${number(energy.duration_seconds)} s` : '')) : null,
        known(energy.dynamic_joules) && known(energy.idle_joules) ? row('Of which', `${approx}${joules(energy.dynamic_joules, soft ? 2 : 3, energy.energy_joules)} this work`, el('span', {class: 'note'}, `${approx}${joules(energy.idle_joules, soft ? 2 : 3, energy.energy_joules)} the idle machine`)) : null,
        !soft && range(energy.low_joules, energy.high_joules) && what !== 'measured' ? row('Interval', range(energy.low_joules, energy.high_joules)) : null,
        ...sourceRows(energy),
        ...moneyRows(energy),
        same ? row('Equivalent', approx + same, el('span', {class: 'note'}, `assuming a bulb that takes ${BULB_WATTS} W`)) : null));
  }
  if (chart) panel.append(el('figure', {}, chart, caption(message)));
  return panel;
}
