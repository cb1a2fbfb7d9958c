// Files that are dropped anywhere on the form of a text are those that it sends.

const form = document.querySelector("form.teach");
const input = form?.querySelector("input[type=file]");

if (input) {
  form.addEventListener("dragover", (event) => {
    if (event.dataTransfer.types.includes("Files")) event.preventDefault();
  });
  form.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    input.files = event.dataTransfer.files;
    input.focus();
  });
}
