// Joules in words, as the command line says them, and sums and estimates over answers. Pure functions, no DOM.
//
// A modelled number never looks like a measured one (kind(), chipText()); what is not known is said, never 0.
// SPDX-License-Identifier: Apache-2.0

const UNITS = [['MJ', 6], ['kJ', 3], ['J', 0], ['mJ', -3]];
const unitFor = (value) => UNITS.find(([, e]) => value >= 10 ** e) || ['µJ', -6];
// The unit of `whole` for a part of it that is not much too small for that.
const unitLike = (value, whole) => unitFor(known(whole) && whole > value && value > whole / 500 ? whole : value);
const leading = (value) => Math.floor(Math.log10(value) + 1e-12);
const round = (value, place) => Number((Math.round(value / 10 ** place) * 10 ** place).toPrecision(15));
const known = (value) => typeof value === 'number' && Number.isFinite(value);

export function number(value, digits = 3) {
  if (!known(value)) return '–';
  if (value === 0) return '0';
  const place = Math.min(leading(Math.abs(value)) - digits + 1, 0);
  return round(value, place).toFixed(Math.max(0, -place)).replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, '');
}

// "12.3 J"
export function joules(value, digits = 3, whole = null) {
  if (!known(value)) return 'unknown';
  if (value <= 0) return '0 J';
  const [unit, e] = unitLike(value, whole);
  const place = leading(value) - digits + 1;
  return `${(round(value, place) / 10 ** e).toFixed(Math.max(0, e - place))} ${unit}`;
}

// "12.3 J ±0.8": as many places as the bound gives sense to; the bound is rounded outwards.
export function withBound(value, bound, whole = null) {
  if (!known(bound) || bound <= 0) return joules(value, 4, whole);
  const [unit, e] = unitLike(Math.max(value, bound), whole);
  const top = leading(bound);
  const place = bound < 3 * 10 ** top || bound > value / 2 ? top - 1 : top;
  const shown = round(value, place);
  const wide = Math.ceil((bound + Math.abs(shown - value)) / 10 ** place - 1e-9) * 10 ** place;
  const digits = Math.max(0, e - place);
  return `${(shown / 10 ** e).toFixed(digits)} ${unit} ±${(wide / 10 ** e).toFixed(digits)}`;
}

// "0.3 J (0 to 1.4 J)": where the bound is no small part of the value, the interval says more.
export function withRange(value, low, high, whole = null) {
  return `${joules(value, 2, whole)} (${range(low, high)})`;
}

export function range(low, high) {
  if (!known(low) || !known(high)) return null;
  return `${low > 0 ? joules(low, 2) : '0'} to ${joules(high, 2)}`;
}

// What a figure looks like: 'measured', 'replayed' (a recording or a simulation), 'modelled', 'below', 'disputed', 'unknown'.
export function kind(energy) {
  if (!energy || energy.status === 'unavailable' || !known(energy.energy_joules)) return 'unknown';
  if (energy.status === 'modelled' || energy.method === 'modelled') return 'modelled';
  if (energy.status === 'below_resolution') return 'below';
  if (energy.status === 'disputed') return 'disputed';
  if (energy.status !== 'measured') return 'unknown';
  return energy.method === 'replayed' || energy.method === 'simulated' ? 'replayed' : 'measured';
}

export function chipText(energy) {
  const wide = kind(energy) === 'below' && range(energy.low_joules, energy.high_joules);
  const text = !energy || !known(energy.energy_joules) ? '' : wide ? withRange(energy.energy_joules, energy.low_joules, energy.high_joules)
    : withBound(energy.energy_joules, energy.bound_joules);
  const estimate = energy && energy.settled === false ? ', not settled' : '';
  switch (kind(energy)) {
    case 'measured': return text + estimate;
    case 'replayed': return `${text} ${energy.method}${estimate}`;
    case 'modelled': return `≈ ${joules(energy.energy_joules, 2)} modelled${estimate}`;
    case 'below': return `${text} below resolution${estimate}`;
    case 'disputed': return `${text} disputed${estimate}`;
    default: return 'energy unknown';
  }
}

// One sentence: what this figure is.
export function explanation(energy) {
  const sure = energy && known(energy.bound_coverage) ? ` in ${Math.round(energy.bound_coverage * 100)} of 100 cases` : '';
  switch (kind(energy)) {
    case 'measured': return `Measured. The true figure lies within the bound${sure}.`;
    case 'replayed': return energy.method === 'simulated' ? 'From a simulated meter: nothing was measured.' : 'From a recording of a meter: not measured now.';
    case 'modelled': {
      const span = range(energy.low_joules, energy.high_joules);
      return `Modelled, not measured: no counter can be read on this machine.${span ? ` The true figure is probably ${span}.` : ''}`;
    }
    case 'below': return 'The answer was too short for the meter to resolve; take the bound seriously.';
    case 'disputed': return 'Two meters, or a meter and physics, contradict each other; do not rely on this figure.';
    default: return `Not known: ${(energy && energy.reason) || 'the server gave no energy for this answer'}.`.replace(/\.\.$/, '.');
  }
}

// The parts of the energy object that the page shows: what is kept in the browser.
export function slim(energy) {
  if (!energy || typeof energy !== 'object') return null;
  const pick = (object, keys) => (object ? Object.fromEntries(keys.filter((key) => object[key] !== undefined).map((key) => [key, object[key]])) : null);
  const phases = energy.phases || {};
  const phase = ['joules', 'bound_joules', 'low_joules', 'high_joules', 'tokens', 'cached_tokens', 'seconds', 'status', 'reason'];
  const perToken = energy.joules_per_token || {};
  return {
    ...pick(energy, ['energy_joules', 'avg_power_watts', 'duration_seconds', 'status', 'settled', 'bound_joules', 'low_joules', 'high_joules',
      'bound_coverage', 'method', 'scope', 'reason', 'fix', 'dynamic_joules', 'idle_joules', 'tokens_per_joule', 'cost', 'carbon', 'cached']),
    phases: {queue: pick(phases.queue, phase), prefill: pick(phases.prefill, phase), decode: pick(phases.decode, phase)},
    joules_per_token: {new_prompt: pick(perToken.new_prompt, ['joules']), cached_prompt: pick(perToken.cached_prompt, ['joules']), decoded: pick(perToken.decoded, ['joules'])},
    domains: Array.isArray(energy.domains) ? energy.domains.slice(0, 16).map((d) => pick(d, ['name', 'scope', 'source', 'joules', 'bound_joules', 'status', 'method'])) : [],
  };
}

// ---- Sums -----------------------------------------------------------------------------------------------------------
// energies: one entry per answer, null where the server sent none. discarded: how many of them were replaced since.
export function total(energies, discarded) {
  const counts = {measured: 0, replayed: 0, modelled: 0, below: 0, disputed: 0, unknown: 0};
  let sum = 0;
  for (const energy of energies) {
    const what = kind(energy);
    counts[what]++;
    if (what !== 'unknown') sum += energy.energy_joules;
  }
  const n = energies.length, withNumber = n - counts.unknown;
  const notes = [['modelled', 'modelled'], ['replayed', 'replayed or simulated'], ['below', 'below resolution'], ['disputed', 'disputed'], ['unknown', 'unknown']]
    .filter(([what]) => counts[what]).map(([what, word], i) => `${counts[what]}${i === 0 && n > 1 ? ' of them' : ''} ${word}`);
  const answers = `${n} answer${n === 1 ? '' : 's'}${discarded ? ` (${discarded} discarded)` : ''}`;
  const soft = counts.modelled + counts.disputed + counts.below > 0;
  const amount = withNumber ? `${soft ? '≈ ' : ''}${joules(sum, soft ? 2 : 3)}` : 'Energy unknown';
  return {sum: withNumber ? sum : null, soft, counts, text: n ? `${amount} in ${answers}${notes.length ? '; ' + notes.join(', ') : ''}` : ''};
}

// ---- What the next turn will cost ---------------------------------------------------------------------------------
// Joules per token of an answer; cached stays null while no answer had cached tokens. null: not known.
export function costOf(energy, before) {
  if (kind(energy) === 'unknown') return null;
  const each = energy.joules_per_token || {}, prefill = (energy.phases || {}).prefill || {}, decode = (energy.phases || {}).decode || {};
  const value = (record, phase) => (record && known(record.joules) ? record.joules : known(phase.joules) && phase.tokens > 0 ? phase.joules / phase.tokens : null);
  const prompt = value(each.new_prompt, prefill.cached_tokens ? {} : prefill), decoded = value(each.decoded, decode);
  if (decoded === null) return before;
  return {
    prompt: prompt ?? (before ? before.prompt : null),
    cached: each.cached_prompt && known(each.cached_prompt.joules) ? each.cached_prompt.joules : before ? before.cached : null,
    decode: decoded, modelled: kind(energy) !== 'measured', tokens: decode.tokens || 0,
  };
}

// context: tokens so far; draft: tokens of the next message; reply: tokens expected. null: not known.
export function nextTurn(cost, context, draft, reply) {
  if (!cost || !known(cost.prompt) || !known(cost.decode) || !context) return null;
  const fresh = draft * cost.prompt + reply * cost.decode;
  return {kept: fresh + context * (cost.cached ?? 0), dropped: fresh + context * cost.prompt, cachedKnown: known(cost.cached)};
}

export const BULB_WATTS = 10;
export function equivalent(value) {
  if (!known(value) || value <= 0) return null;
  const s = value / BULB_WATTS;
  return `= ${s < 90 ? number(s, 2) + ' s' : s < 5400 ? number(s / 60, 2) + ' min' : number(s / 3600, 2) + ' h'} of a ${BULB_WATTS} W LED bulb`;
}
