// Asks the server. What does not come through is sent again with the same key until it does, and is then done once.

const PAUSES = [500, 1000, 2000, 4000, 8000]; // milliseconds before the second, third ... try
const PATIENCE = 15_000; // milliseconds after which a request that has no answer counts as lost
const MOST_KEPT = 20_000; // characters, at most 60 kB: browsers still send so much for a page that is left

export class Refused extends Error {
  constructor(status, answer) {
    super(answer.problem ?? translated("The server answered with the number {status}; nothing of yours is lost.", { status }));
    Object.assign(this, { status, field: answer.field ?? null });
  }
}

export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").slice(0, 22);
}

// Wait, but not after the browser says that it is online again.
function pause(milliseconds) {
  return new Promise((resolve) => {
    const over = () => {
      clearTimeout(timer);
      window.removeEventListener("online", over);
      resolve();
    };
    const timer = setTimeout(over, milliseconds);
    window.addEventListener("online", over);
  });
}

export const isJson = (answer) => answer.headers.get("Content-Type")?.startsWith("application/json");

// One try; null where no answer of ours came. Raises Refused.
async function attempt(address, options) {
  let answer;
  let data = {};
  try {
    answer = await fetch(address, { ...options, signal: AbortSignal.timeout(PATIENCE) });
    if (isJson(answer)) data = await answer.json();
  } catch {
    return null; // offline, cut off, or silent: what is sent again is done once
  }
  if (answer.ok) return data;
  if ([502, 504].includes(answer.status)) return null; // a proxy without its server
  throw new Refused(answer.status, data);
}

// POST `body`, or GET without one; returns what the answer holds. `trouble(kind, sentence)` is told while nothing comes through
// ("silent", or "refusing" with what the server says), and null when it does. `patient`: refusals that pass by (too many, too busy, our mistake) are waited for as well.
export async function ask(address, body, { trouble, patient = false }) {
  const options = { headers: { Accept: "application/json", ...pageHeaders } };
  if (body) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
    options.keepalive = options.body.length < MOST_KEPT;
  }
  for (let tries = 0; ; tries += 1) {
    let told = ["silent"];
    try {
      const found = await attempt(address, options);
      if (found) {
        trouble(null);
        return found;
      }
    } catch (refused) {
      if (!patient || ![429, 500, 503].includes(refused.status)) {
        trouble(null);
        throw refused;
      }
      told = ["refusing", refused.message];
    }
    trouble(...told);
    await pause(PAUSES[Math.min(tries, PAUSES.length - 1)]);
  }
}
