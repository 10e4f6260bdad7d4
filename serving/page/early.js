// Runs before the first paint, so that nothing flashes: which theme and which language.
const root = document.documentElement;
try {
  const theme = localStorage.getItem("kinetograph.theme");
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  const language = localStorage.getItem("kinetograph.language") || navigator.language;
  if (language.toLowerCase().startsWith("zh")) {
    root.lang = "zh-Hans";
    root.classList.add("untranslated");
  }
} catch {
  // Storage is switched off: the defaults do.
}
