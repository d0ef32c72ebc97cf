import { loadLiteRt } from "@litertjs/core";
import { Classifier, bestMilliseconds, softmax } from "./classifier.js";
import { Pad, scan, show } from "./pad.js";
import { element, showAnswer, showComparison, showProbabilities } from "./views.js";

async function start() {
  const run = await (await fetch("run.json", { cache: "no-cache" })).json();
  element("status").textContent = "Loading LiteRT.js and both files …";
  await loadLiteRt("litert/core/wasm/");
  const [dense, sparse] = await Promise.all(
    ["dense", "sparse"].map((kind) => Classifier.load(run.files[kind].url, run.scaling)),
  );
  new Page(run, dense, sparse);
}

/** What the user has chosen - digit and sub-net - and what follows from it. */
class Page {
  #run;
  #dense;
  #sparse;
  #pixels;
  #subnet;
  #turn = 0;
  #measuring = Promise.resolve();

  constructor(run, dense, sparse) {
    this.#run = run;
    this.#dense = dense;
    this.#sparse = sparse;
    const pad = new Pad(element("pad"), (strokes) => this.#take(scan(strokes)));
    element("clear").addEventListener("click", () => {
      pad.clear();
      this.#take(scan([]));
    });
    element("measure").addEventListener("click", () => this.#measure());
    element("samples").append(
      ...run.samples.map((sample) =>
        sampleButton(sample, (button) => {
          pad.clear();
          this.#take(sample.pixels, button);
        }),
      ),
    );
    element("subnets").hidden = run.subnets.length === 1;
    element("subnets").append(
      ...run.subnets.map((subnet) => subnetChoice(subnet, () => this.#choose(subnet))),
    );
    element("status").textContent = `${run.model}, ${run.subnets.length} sub-net` +
      `${run.subnets.length > 1 ? "s" : ""}; LiteRT.js in WebAssembly, on one CPU thread.`;
    element("page").inert = false;
    this.#subnet = run.subnets[0];
    element("subnets").querySelector("input").checked = true;
    element("samples").firstElementChild.click();
    this.#measure();
  }

  #take(pixels, button = null) {
    this.#pixels = pixels;
    for (const other of element("samples").children) {
      other.setAttribute("aria-pressed", other === button);
    }
    show(element("pixels"), pixels);
    this.#answer();
  }

  #choose(subnet) {
    this.#subnet = subnet;
    this.#answer();
    this.#measure();
  }

  async #answer() {
    const turn = ++this.#turn;
    const blank = this.#pixels.every((pixel) => pixel === 0);
    const { name } = this.#subnet;
    const dense = await this.#dense.logits(name, this.#pixels);
    const sparse = await this.#sparse.logits(name, this.#pixels);
    if (turn !== this.#turn) return; // a newer digit or sub-net is on its way
    const probabilities = blank ? dense.map(() => 0) : softmax(sparse);
    showProbabilities(probabilities);
    showAnswer(name, probabilities, dense, sparse);
  }

  /** One measurement at a time, each of the sub-net and digit chosen when its turn comes. */
  #measure() {
    this.#measuring = this.#measuring.then(async () => {
      const { name } = this.#subnet;
      element("measure").disabled = true;
      element("verdict").textContent = `Measuring ${name} …`;
      const both = [this.#dense, this.#sparse].map((file) => file.timed(name, this.#pixels));
      const [dense, sparse] = await bestMilliseconds(both.map(({ run }) => run));
      for (const { free } of both) free();
      showComparison(name, this.#run.files, { dense, sparse });
      element("measure").disabled = false;
    });
  }
}

function sampleButton({ label, pixels }, chosen) {
  const button = document.createElement("button");
  button.type = "button";
  button.ariaLabel = `Sample of a ${label}`;
  button.dataset.label = label;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 8;
  show(canvas, pixels);
  button.append(canvas);
  button.addEventListener("click", () => chosen(button));
  return button;
}

function subnetChoice({ name, sparsity, accuracy }, chosen) {
  const label = document.createElement("label");
  label.className = "choice";
  label.innerHTML = `<input type="radio" name="subnet"><strong></strong><small></small>`;
  const [input, title, detail] = label.children;
  input.value = name;
  input.addEventListener("change", chosen);
  title.textContent = `${Number((100 * sparsity).toFixed(1))} % zeros`;
  detail.textContent = `${(100 * accuracy).toFixed(1)} % right`;
  return label;
}

start().catch((error) => {
  element("status").classList.add("failed");
  element("status").textContent = `The page cannot run: ${error.message}`;
  throw error;
});
