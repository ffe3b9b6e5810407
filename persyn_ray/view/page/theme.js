/* Sets light or dark before the first paint: what was chosen on this machine, else the system's. */
(function () {
  "use strict";
  const KEY = "persyn-view-theme";
  const THEMES = ["system", "light", "dark"];

  function stored() {
    try {
      const theme = localStorage.getItem(KEY);
      return THEMES.includes(theme) ? theme : "system";
    } catch {
      return "system"; // storage is switched off
    }
  }

  function apply(theme) {
    const root = document.documentElement;
    if (theme === "system") root.removeAttribute("data-theme");
    else root.setAttribute("data-theme", theme);
  }

  function label(button, theme) {
    button.textContent = `Theme: ${theme}`;
    button.setAttribute("aria-label", `Theme: ${theme}. Change it.`);
  }

  function connect() {
    const button = document.getElementById("theme");
    label(button, stored());
    button.addEventListener("click", () => {
      const next = THEMES[(THEMES.indexOf(stored()) + 1) % THEMES.length];
      try {
        localStorage.setItem(KEY, next);
      } catch {
        // it then lasts until the page is left
      }
      apply(next);
      label(button, next);
    });
  }

  apply(stored());
  document.addEventListener("DOMContentLoaded", connect);
})();
