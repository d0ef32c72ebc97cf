import { loadLiteRt } from "@litertjs/core";
import { EPOCHS, train } from "./day.js";
import { Learner } from "./learner.js";
import { Pad, scan, show } from "./pad.js";
import { keep, load } from "./store.js";

const element = (id) => document.getElementById(id);

async function start() {
  const about = await (await fetch("page.json", { cache: "no-cache" })).json();
  element("status").textContent = "Loading LiteRT.js and the file …";
  await loadLiteRt("litert/core/wasm/");
  const page = new Page(about, await Learner.load(about.url));
  await page.begin();
}

class Page {
  #about;
  #learner;
  #own = []; // digits drawn here: {pixels, label, id}
  #pixels = new Array(64).fill(0);
  #pad;

  constructor(about, learner) {
    this.#about = about;
    this.#learner = learner;
    this.#pad = new Pad(element("pad"), (strokes) => this.#take(scan(strokes)));
    element("clear").addEventListener("click", () => this.#clear());
    element("labels").append(...about.digits.map((digit) => this.#labelButton(digit)));
    element("train").addEventListener("click", () => this.#train());
    element("forget").addEventListener("click", () => this.#forget());
  }

  /** Takes back what was learned here before, and shows how good the net is. */
  async begin() {
    const kept = await load(this.#about.url);
    if (kept && (await this.#learner.restore(kept.state))) {
      this.#own = kept.own;
      this.#say("What was learned here before is back.");
    }
    this.#show(await this.#learner.resting());
    await this.#test("after");
    element("before").textContent = this.#about.before;
    element("status").textContent =
      `${this.#about.model}, ${Math.round(100 * this.#about.sparsity)} % zeros, ` +
      `${Math.round(this.#about.bytes / 1024)} KiB; LiteRT.js in WebAssembly, on one CPU thread.`;
    element("page").inert = false;
  }

  get #samples() {
    return [...this.#about.samples, ...this.#own];
  }

  async #take(pixels) {
    this.#pixels = pixels;
    show(element("pixels"), pixels);
    const blank = pixels.every((pixel) => pixel === 0);
    for (const button of element("labels").children) button.disabled = blank;
    const outputs = blank ? null : await this.#learner.infer(this.#scaled(pixels));
    element("digit").textContent = blank ? "–" : argmax(outputs);
  }

  #clear() {
    this.#pad.clear();
    this.#take(scan([]));
  }

  /** A drawing becomes a sample. */
  async #label(digit) {
    const id = this.#about.samples.length + this.#own.length;
    if (id >= this.#learner.samples) {
      this.#say(`There is room for ${this.#learner.samples} digits: forget yours to draw others.`);
      return;
    }
    this.#own.push({ pixels: this.#pixels, label: digit, id });
    this.#clear();
    this.#show(await this.#learner.resting());
    await this.#keep();
    this.#say(`A ${digit}, to be learned.`);
  }

  async #train() {
    this.#busy(true);
    const samples = this.#samples.map((one) => ({ ...one, pixels: this.#scaled(one.pixels) }));
    const begun = performance.now();
    await train(this.#learner, samples, async ({ done, frozen, wrong, resting, loss }) => {
      this.#show(resting, wrong, frozen);
      element("progress").value = done / EPOCHS;
      this.#say(
        `Epoch ${done} of ${EPOCHS}: loss ${loss.toFixed(3)}, ${wrong.size} wrong, ` +
          `${samples.filter(({ id }) => resting.has(id)).length} resting, ${frozen} of ${this.#learner.blocks} blocks frozen.`,
      );
      await new Promise((resolve) => setTimeout(resolve)); // lets the page show it
    });
    const seconds = (performance.now() - begun) / 1000;
    await this.#keep();
    await this.#test("after");
    this.#say(`Learned in ${seconds.toFixed(2)} s, and kept in this browser.`);
    this.#busy(false);
  }

  /** The net, and the samples, as they came. */
  async #forget() {
    this.#busy(true);
    await keep(this.#about.url, undefined);
    this.#learner = await Learner.load(this.#about.url);
    this.#own = [];
    this.#show(await this.#learner.resting());
    await this.#test("after");
    element("progress").value = 0;
    this.#say("The net is as it came.");
    this.#busy(false);
  }

  async #keep() {
    const state = await this.#learner.save();
    await keep(this.#about.url, { state, own: this.#own });
  }

  /** Shows how many test digits are right: those known at the desk, and those that are new. */
  async #test(id) {
    const right = { known: 0, new: 0 };
    const count = { known: 0, new: 0 };
    for (const { pixels, label } of this.#about.test) {
      const kind = this.#about.known.includes(label) ? "known" : "new";
      count[kind]++;
      right[kind] += argmax(await this.#learner.infer(this.#scaled(pixels))) === label;
    }
    element(id).textContent =
      `${right.known} of ${count.known} known digits, ${right.new} of ${count.new} new ones`;
  }

  #show(resting, wrong = new Set(), frozen = 0) {
    element("samples").replaceChildren(
      ...this.#samples.map(({ pixels, label, id }) => {
        const canvas = document.createElement("canvas");
        canvas.width = canvas.height = 8;
        show(canvas, pixels);
        const state = resting.has(id) ? "resting" : wrong.has(id) ? "wrong" : "trained";
        canvas.className = state;
        canvas.title = canvas.ariaLabel = `${label}, ${state}`;
        canvas.role = "img";
        return canvas;
      }),
    );
    element("blocks").replaceChildren(
      ...Array.from({ length: this.#learner.blocks }, (_, block) => {
        const made = document.createElement("i");
        made.className = block < frozen ? "frozen" : "";
        made.title = made.ariaLabel = `block ${block + 1}${block < frozen ? ", frozen" : ""}`;
        made.role = "img";
        return made;
      }),
    );
    element("own").textContent = this.#own.length;
  }

  #labelButton(digit) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = digit;
    button.disabled = true;
    button.ariaLabel = `This is a ${digit}`;
    button.addEventListener("click", () => this.#label(digit));
    return button;
  }

  #scaled(pixels) {
    const { mean, std } = this.#about.scaling;
    return pixels.map((pixel) => (pixel - mean) / std);
  }

  #busy(busy) {
    element("page").inert = busy;
    element("train").textContent = busy ? "Learning …" : "Learn";
  }

  #say(text) {
    element("said").textContent = text;
  }
}

function argmax(values) {
  return values.indexOf(Math.max(...values));
}

start().catch((error) => {
  element("status").classList.add("failed");
  element("status").textContent = `The page cannot run: ${error.message}`;
  throw error;
});
