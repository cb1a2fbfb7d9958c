// The scripts' words in the page's language. English stands where it is said; the page brings what its catalogue has instead.

{
  const words = JSON.parse(document.getElementById("words")?.textContent ?? "{}");
  // a sentence, with its values in the {placeholders}
  globalThis.translated = (sentence, values = {}) => (words[sentence] ?? sentence).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
  globalThis.pageLanguage = document.documentElement.lang;
  globalThis.pageHeaders = { "Page-Language": pageLanguage }; // with which an answer comes in it, whatever another tab has chosen since
  globalThis.clockLanguage = pageLanguage === "en" ? "en-GB" : pageLanguage; // the day before the month, and 24 hours
}

document.addEventListener("htmx:config:request", ({ detail: { ctx } }) => Object.assign(ctx.request.headers, pageHeaders));
