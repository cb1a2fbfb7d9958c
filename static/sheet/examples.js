// Beginnings that are written on at once when they are pressed.

// `begin(prompt, options)`: options are the form's fields that it turned out well with, null: as the settings say.
export function watchExamples(model, begin) {
  for (const form of document.querySelectorAll("form.example")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault(); // without a script it makes a run by itself
      const { nonce: _, prompt, ...options } = Object.fromEntries(new FormData(form, event.submitter));
      begin(prompt, options.seed && options.model === model() ? options : null);
    });
  }
}
