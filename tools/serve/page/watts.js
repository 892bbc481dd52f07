// A small chart of watts over an answer's time: what the server's meter showed while it ran (a line), and each phase's average by its joules
// and seconds (shaded areas). Phases begin where this browser saw them begin; a modelled average is hatched by its dashed outline.
// SPDX-License-Identifier: Apache-2.0
import {svg} from './dom.js';
import {number, kind} from './energy.js';

const WIDTH = 360, HEIGHT = 96, LEFT = 34, RIGHT = 8, TOP = 10, BOTTOM = 18;

// [{name, from, to (seconds since the request), watts or null}]
function phasesOf(message, seconds) {
  let first = message.ttft === null || message.ttft === undefined ? null : message.ttft / 1000;
  const phases = (message.energy && message.energy.phases) || {};
  const watts = (p) => (p && typeof p.joules === 'number' && p.seconds > 0 ? p.joules / p.seconds : null);
  const out = [];
  const prefill = phases.prefill && phases.prefill.seconds > 0 ? phases.prefill.seconds : null;
  if (first !== null && prefill !== null && prefill > first) first = prefill; // a stream that came in one piece
  out.push({name: 'prefill', from: first !== null && prefill !== null ? first - prefill : 0, to: first ?? seconds, watts: watts(phases.prefill)});
  if (first !== null) {
    const end = phases.decode && phases.decode.seconds > 0 ? first + phases.decode.seconds : Math.max(seconds, first);
    out.push({name: 'decode', from: first, to: end, watts: watts(phases.decode)});
  }
  return out;
}

function ceiling(value) {
  const e = 10 ** Math.floor(Math.log10(value));
  return [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map((m) => m * e).find((m) => m >= value * 0.999);
}

// null: nothing is known to draw. now: seconds since the request while it runs, else null.
export function wattsChart(message, now = null) {
  const samples = message.samples || [];
  const last = samples.length ? samples[samples.length - 1][0] / 1000 : 0;
  const shown = Math.max(now ?? 0, (message.ended || 0) / 1000, now === null ? 0 : last, 0.01);
  const phases = phasesOf(message, shown);
  const seconds = Math.max(shown, ...phases.map((p) => p.to));
  const highest = Math.max(0, ...samples.map(([, w]) => w), ...phases.map((p) => p.watts ?? 0));
  if (!(highest > 0)) return null;
  const top = ceiling(highest);
  const x = (t) => LEFT + Math.min(t / seconds, 1) * (WIDTH - LEFT - RIGHT);
  const y = (w) => HEIGHT - BOTTOM - (w / top) * (HEIGHT - TOP - BOTTOM);
  const base = HEIGHT - BOTTOM;
  const soft = kind(message.energy) === 'modelled' ? ' modelled' : '';
  const spoken = phases.map((p) => `${p.name} ${number(p.to - p.from, 2)} seconds${p.watts === null ? '' : `, ${number(p.watts, 2)} watts on average`}`).join('; ');
  const root = svg('svg', {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: 'watts', role: 'img', 'aria-label': `Watts over time: ${spoken}`});
  for (const p of phases) {
    const width = Math.max(x(p.to) - x(p.from), 1);
    root.append(svg('rect', {class: `phase ${p.name}`, x: x(p.from), y: TOP, width, height: base - TOP}));
    if (p.watts !== null) root.append(svg('rect', {class: `average ${p.name}${soft}`, x: x(p.from), y: y(p.watts), width, height: base - y(p.watts)}));
  }
  root.append(svg('line', {class: 'axis', x1: LEFT, x2: WIDTH - RIGHT, y1: base, y2: base}), svg('line', {class: 'axis top', x1: LEFT, x2: WIDTH - RIGHT, y1: TOP, y2: TOP}));
  if (samples.length > 1) root.append(svg('polyline', {class: 'line', points: samples.map(([t, w]) => `${x(t / 1000).toFixed(1)},${y(w).toFixed(1)}`).join(' ')}));
  for (const [t, w] of samples.length > 1 ? samples.slice(-1) : samples) root.append(svg('circle', {class: 'dot', cx: x(t / 1000), cy: y(w), r: 2}));
  root.append(svg('text', {x: LEFT - 4, y: TOP + 4, 'text-anchor': 'end'}, `${number(top, 2)} W`), svg('text', {x: LEFT - 4, y: base + 3, 'text-anchor': 'end'}, '0'));
  root.append(svg('text', {x: WIDTH - RIGHT, y: HEIGHT - 5, 'text-anchor': 'end', class: 'end'}, `${number(seconds, 2)} s`));
  return root;
}
