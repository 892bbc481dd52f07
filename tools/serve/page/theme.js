// Sets the chosen colours before the first paint, so that a dark page never flashes white. A classic script: modules run too late.
// SPDX-License-Identifier: Apache-2.0
(() => {
  try {
    const theme = (JSON.parse(localStorage.getItem('wattle.settings')) || {}).theme;
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  } catch { /* no storage: the system's colours */ }
})();
