// The writings of the model in a sheet, newest first, each with its permanent link; of many the older ones when they are asked for.

import { element } from "./around.js";

const moments = new Intl.DateTimeFormat(clockLanguage, { dateStyle: "medium", timeStyle: "short" });
const moment = (when) => moments.format(new Date(when));

export class Versions {
  // `older(from)` tells those from a number on
  constructor(box, base, older) {
    Object.assign(this, { box, base, all: [], count: 0 });
    this.more = element("button", { type: "button", textContent: translated("Show older ones") });
    this.more.addEventListener("click", async () => {
      const found = await older(this.all.length);
      this.add(found);
    });
    box.append(this.more);
  }

  draw(newest, count) {
    const kept = this.all.filter(({ run }) => !newest.some((one) => one.run === run));
    this.all = newest.length + kept.length > count ? newest : [...newest, ...kept]; // some were deleted: then all are asked for anew
    this.count = count;
    this.show();
  }

  add(found) {
    this.all = [...this.all, ...found.filter(({ run }) => !this.all.some((one) => one.run === run))];
    this.show();
  }

  show() {
    const { box, base, all, count } = this;
    box.querySelector("summary").textContent = translated("Versions ({count})", { count });
    box.querySelector("ol").replaceChildren(...all.map(({ run, words, when }) => element("li", {},
      element("a", { href: `${base}r/${run}`, textContent: words || translated("(nothing yet)"), dir: "auto" }),
      element("time", { dateTime: when, textContent: moment(when) }))));
    box.hidden = !count;
    this.more.hidden = all.length >= count;
  }
}
