// Some files on their way, one after the other; each goes on from where it was after a cut, a reload, a killed server.
import { Upload } from 'tus-js-client';

const PIECE = 4 * 2 ** 20; // bytes; proxies take no larger body where nobody told them to
const PAUSES = [0, 1000, 2000, 5000, 10_000, 20_000, 30_000, 30_000, 60_000];
const WINDOW = 5000; // milliseconds over which the speed is measured

export class Arrival {
  constructor(endpoint, files, heard) {
    this.endpoint = endpoint;
    this.heard = heard;
    this.parts = files.map(file => ({ file, sent: 0, id: null }));
    this.marks = [];
    this.upload = null;
    this.left = false;
  }

  get isWhole() {
    return this.parts.every(part => part.id);
  }

  get total() {
    return this.parts.reduce((sum, part) => sum + part.file.size, 0);
  }

  get sent() {
    return this.parts.reduce((sum, part) => sum + part.sent, 0);
  }

  async start() {
    this.marks = [];
    const part = this.parts.find(one => !one.id);
    if (!part || this.left) return;
    this.upload = new Upload(part.file, {
      endpoint: this.endpoint,
      chunkSize: PIECE,
      retryDelays: PAUSES,
      headers: { Accept: 'application/json', ...pageHeaders },
      metadata: { filename: part.file.name },
      removeFingerprintOnSuccess: true,
      onProgress: sent => { part.sent = sent; this.tell(); },
      onSuccess: () => this.took(part),
      onError: error => { if (!this.left) this.heard.failed(sentenceOf(error)); },
    });
    const earlier = await this.upload.findPreviousUploads();
    if (this.left) return;
    if (earlier.length) this.upload.resumeFromPreviousUpload(earlier[0]);
    this.upload.start();
    this.tell();
  }

  leave() {
    this.left = true;
    this.upload?.abort(true).catch(() => {}); // a server that cannot be reached forgets it in a day
  }

  took(part) {
    part.sent = part.file.size;
    part.id = this.upload.url.split('/').pop();
    this.tell();
    if (this.isWhole) this.heard.arrived();
    else this.start();
  }

  tell() {
    const now = performance.now(), sent = this.sent, total = this.total;
    this.marks.push([now, sent]);
    while (this.marks.length > 2 && now - this.marks[0][0] > WINDOW) this.marks.shift();
    const [since, before] = this.marks[0];
    const speed = now - since > 500 ? (sent - before) / (now - since) * 1000 : 0;
    this.heard.show({ share: total ? sent / total : 1, words: words(sent, total, speed) });
  }
}

function words(sent, total, speed) {
  if (sent >= total) return translated('It is here.');
  const mega = size => (size / 1e6).toFixed(1);
  const told = [translated('{sent} of {total} MB', { sent: mega(sent), total: mega(total) })];
  if (speed > 0) {
    const time = lasting((total - sent) / speed);
    told.push(translated('{speed} MB a second', { speed: mega(speed) }), translated('{time} left', { time }));
  }
  return told.join(' · ');
}

function lasting(seconds) {
  if (seconds < 90) return translated('{count} s', { count: Math.max(1, Math.round(seconds)) });
  if (seconds < 5400) return translated('{count} min', { count: Math.round(seconds / 60) });
  return translated('{count} h', { count: (seconds / 3600).toFixed(1) });
}

function sentenceOf(error) {
  try {
    const { problem } = JSON.parse(error.originalResponse.getBody());
    if (problem) return problem;
  } catch {
    // no answer, or one of a proxy's
  }
  return translated('The server cannot be reached; what has arrived stays there for a day.');
}
