"use strict";
(() => {
  const root = document.documentElement;

  // Theme: the system's until the reader chooses; the choice is kept where the browser lets a file keep one.
  const button = document.querySelector(".toggle");
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const label = () => { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-label", `Use the ${isDark() ? "light" : "dark"} theme`); };
  try { const kept = localStorage.getItem("anychannel-theme"); if (kept === "dark" || kept === "light") root.dataset.theme = kept; } catch { /* no storage */ }
  button.hidden = false;
  label();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("anychannel-theme", root.dataset.theme); } catch { /* no storage */ }
    label();
  });
})();
