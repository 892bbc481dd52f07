// The settings dialog: system prompt, sampling, limits, key, colours. Empty fields are left to the server, and not sent.
// SPDX-License-Identifier: Apache-2.0
import {el} from './dom.js';
import {DEFAULTS, settings, saveSettings, isPersistent} from './store.js';
import {apiKey, setApiKey} from './api.js';
import {BULB_WATTS} from './energy.js';

// name, label, hint, minimum, maximum, step, whole number
const NUMBERS = [
  ['temperature', 'Temperature', '0: always the likeliest', 0, 5, 0.05],
  ['top_p', 'Top-p', 'likeliest, up to this share', 0, 1, 0.01],
  ['top_k', 'Top-k', 'this many; 0: all', 0, 100000, 1],
  ['min_p', 'Min-p', 'share of the likeliest', 0, 1, 0.01],
  ['max_tokens', 'Token limit', 'of one answer', 1, 1000000, 1],
  ['seed', 'Seed', 'the same answer again', 0, 4294967295, 1],
  ['max_joules', 'Energy limit', 'joules of one answer', 0.001, 1000000000, 'any'],
];

// What goes into a request.
export function requestOptions(values) {
  const out = {};
  for (const [name] of NUMBERS) {
    const value = Number(values[name]);
    if (String(values[name]).trim() !== '' && Number.isFinite(value)) out[name] = value;
  }
  return out;
}

export function applyTheme(theme) {
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

function field(id, label, hint, control) {
  const hintId = hint ? `${id}-hint` : null;
  if (hintId) control.setAttribute('aria-describedby', hintId);
  control.id = id;
  return el('div', {class: 'field'}, el('label', {for: id}, label), control, hint ? el('span', {class: 'hint', id: hintId}, hint) : null);
}

function numberField([name, label, hint, min, max, step], values) {
  return field('set-' + name, label, hint, el('input', {type: 'number', name, min, max, step, inputmode: step === 1 ? 'numeric' : 'decimal', placeholder: name === 'max_joules' ? 'none' : name === 'seed' ? 'random' : 'default', value: values[name]}));
}

// focus: the id of the field to begin with. changed() is called after saving.
export function openSettings(dialog, changed, focus = null) {
  const values = settings();
  const system = el('textarea', {name: 'system', rows: '3', dir: 'auto', value: values.system});
  const key = el('input', {type: 'password', autocomplete: 'off', spellcheck: 'false', value: apiKey()});
  const theme = el('select', {}, ...[['auto', 'As the system'], ['light', 'Light'], ['dark', 'Dark']].map(([value, text]) => el('option', {value, selected: value === values.theme}, text)));
  theme.value = values.theme;
  const equivalents = el('input', {type: 'checkbox', id: 'set-equivalents', checked: values.equivalents});
  const form = el('form', {method: 'dialog', novalidate: true},
    el('div', {class: 'dialog-head'}, el('h2', {id: 'settings-title'}, 'Settings'), el('button', {type: 'button', class: 'icon', 'aria-label': 'Close without saving', onclick: () => dialog.close()}, '✕')),
    el('div', {class: 'dialog-body'},
      field('set-system', 'System prompt', 'stands before every conversation; a change takes effect with the next message', system),
      el('fieldset', {}, el('legend', {}, 'Sampling and limits'), el('p', {class: 'hint'}, 'Empty: the server decides.'), el('div', {class: 'grid small'}, ...NUMBERS.map((n) => numberField(n, values)))),
      el('fieldset', {}, el('legend', {}, 'Page'),
        el('div', {class: 'grid'}, field('set-theme', 'Colours', null, theme), field('set-key', 'API key', 'kept until this tab is closed', key)),
        el('div', {class: 'check'}, equivalents, el('label', {for: 'set-equivalents'}, `Compare joules with an LED bulb (assumed to take ${BULB_WATTS} W)`)))),
    el('p', {class: 'problem', id: 'set-problem', role: 'alert', hidden: true}),
    el('div', {class: 'dialog-foot'},
      el('button', {type: 'button', class: 'plain', onclick: () => reset()}, 'Reset'),
      el('span', {class: 'grow'}),
      el('button', {type: 'button', class: 'plain', onclick: () => dialog.close()}, 'Cancel'),
      el('button', {type: 'submit', class: 'primary'}, 'Save')));

  function reset() {
    for (const [name] of NUMBERS) form.elements[name].value = DEFAULTS[name];
    system.value = DEFAULTS.system;
    theme.value = DEFAULTS.theme;
    equivalents.checked = DEFAULTS.equivalents;
  }
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const wrong = NUMBERS.find(([name]) => !form.elements[name].validity.valid);
    const problem = form.querySelector('#set-problem');
    problem.hidden = !wrong;
    if (wrong) {
      problem.textContent = `${wrong[1]}: ${form.elements[wrong[0]].validationMessage}`;
      form.elements[wrong[0]].focus();
      return;
    }
    const next = {...settings(), system: system.value, theme: theme.value, equivalents: equivalents.checked};
    for (const [name] of NUMBERS) next[name] = form.elements[name].value;
    saveSettings(next);
    setApiKey(key.value);
    applyTheme(next.theme);
    dialog.close();
    changed();
  });
  if (!isPersistent()) form.querySelector('.dialog-body').prepend(el('p', {class: 'problem'}, 'This browser keeps nothing for this page: settings and conversations last until it is closed.'));
  dialog.replaceChildren(form);
  dialog.showModal();
  const first = focus ? form.querySelector('#' + focus) : system;
  first.focus();
}

// A question with two answers; resolves to true or false.
export function confirmDialog(dialog, title, text, yes) {
  return new Promise((resolve) => {
    let answer = false;
    const cancel = el('button', {type: 'button', class: 'plain', onclick: () => dialog.close()}, 'Cancel');
    const accept = el('button', {type: 'button', class: 'primary danger', onclick: () => { answer = true; dialog.close(); }}, yes);
    dialog.replaceChildren(el('div', {class: 'dialog-body'}, el('h2', {id: 'confirm-title'}, title), el('p', {dir: 'auto'}, text)), el('div', {class: 'dialog-foot'}, el('span', {class: 'grow'}), cancel, accept));
    dialog.addEventListener('close', () => resolve(answer), {once: true});
    dialog.showModal();
    cancel.focus();
  });
}
