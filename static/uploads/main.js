// Files that are dropped on a form go to the server in pieces, by tus; the form is sent when they are there.
import { Arrival } from './arrival.js';
import { dropped } from './dropped.js';

for (const form of document.querySelectorAll('form[data-uploads]')) watch(form);
document.addEventListener('htmx:after:swap', () => {
  for (const form of document.querySelectorAll('form[data-uploads]')) watch(form);
});

// a file that misses its place must not take the page's
for (const kind of ['dragover', 'drop']) document.addEventListener(kind, event => event.preventDefault());

function watch(form) {
  if (form.dataset.watched) return;
  form.dataset.watched = 'yes';
  const part = name => form.querySelector(`[data-${name}]`);
  const place = part('drop'), input = place.querySelector('input[type=file]');
  const problem = part('problem'), waits = part('waits'), byUpload = part('by-upload');
  let arrival = null, wanted = false;

  const say = sentence => {
    problem.textContent = sentence;
    problem.hidden = !sentence;
  };

  const begin = files => {
    if (!files.length) return;
    say('');
    leave();
    if (byUpload) byUpload.checked = true;
    const name = form.elements.makes;
    if (name && !name.value) name.placeholder = nameFor(files[0].name);
    arrival = new Arrival(form.dataset.uploads, files, {
      show, failed: sentence => { say(sentence); part('again').hidden = false; },
      arrived: () => { if (wanted) form.requestSubmit(); },
    });
    part('files').replaceChildren(...arrival.parts.map(line));
    part('arriving').hidden = false;
    arrival.start();
  };

  const show = told => {
    part('arriving').querySelector('progress').value = told.share;
    part('far').textContent = told.words;
    part('again').hidden = true;
    arrival.parts.forEach((one, at) => {
      const row = part('files').children[at];
      if (one.id && !row.querySelector('input')) row.append(hidden(one.id));
    });
  };

  const leave = () => {
    arrival?.leave();
    arrival = null;
    wanted = false;
    waits.hidden = true;
    part('files').replaceChildren();
    part('arriving').hidden = true;
  };

  input.addEventListener('change', () => { begin([...input.files]); input.value = ''; });
  part('drop-all').addEventListener('click', leave);
  window.addEventListener('online', () => { if (!part('again').hidden) part('again').click(); });
  part('again').addEventListener('click', () => { say(''); part('again').hidden = true; arrival?.start(); });
  place.addEventListener('dragover', event => { event.preventDefault(); place.classList.add('over'); });
  place.addEventListener('dragleave', () => place.classList.remove('over'));
  place.addEventListener('drop', async event => {
    event.preventDefault();
    place.classList.remove('over');
    begin(await dropped(event.dataTransfer));
  });
  form.addEventListener('submit', event => {
    if (!arrival || arrival.isWhole || (byUpload && !byUpload.checked)) return;
    event.preventDefault();
    wanted = true;
    waits.hidden = false;
  });
}

function line(part) {
  const row = document.createElement('li'), name = document.createElement('span'), size = document.createElement('small');
  name.textContent = part.file.name;
  size.textContent = `${(part.file.size / 1e6).toFixed(1)} MB`;
  row.append(name, size);
  return row;
}

function hidden(id) {
  const input = document.createElement('input');
  Object.assign(input, { type: 'hidden', name: 'upload', value: id });
  return input;
}

function nameFor(name) {
  return name.replace(/(\.tar\.gz|\.[A-Za-z0-9]{1,8})$/, '').replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^[-._]+|[-._]+$/g, '');
}
