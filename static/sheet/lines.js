// An answer that comes line by line, each of them JSON, until it ends or nobody wants it any more.

import { Refused, isJson } from "./requests.js";

const NO_CONNECTION = translated("No connection. Press again when it is back.");

export class Lines {
  constructor() {
    this.control = new AbortController();
  }

  // The objects of the answer to `body`; raises Refused.
  async *of(address, body) {
    const headers = { "Content-Type": "application/json", Accept: "application/json", ...pageHeaders };
    let answer;
    try {
      answer = await fetch(address, { method: "POST", headers, body: JSON.stringify(body), signal: this.control.signal });
      if (answer.ok) return yield* this.read(answer.body.pipeThrough(new TextDecoderStream()).getReader());
    } catch (failure) {
      if (this.control.signal.aborted) return null;
      if (failure instanceof TypeError) throw new Refused(0, { problem: NO_CONNECTION }); // what fetch says where nothing comes
      throw failure;
    }
    throw new Refused(answer.status, isJson(answer) ? await answer.json() : {});
  }

  async *read(reader) {
    let held = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (held + value).split("\n");
      held = lines.pop();
      for (const line of lines) yield JSON.parse(line);
    }
  }

  leave() {
    this.control.abort();
  }
}
