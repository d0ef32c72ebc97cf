import { Tensor, loadAndCompile } from "@litertjs/core";

const SLICES = 25;
// Browsers round their clock to as much as 1 ms: a slice is long against that.
const SLICE_MS = 20;

/** A .tflite file that classifies digits, with a signature for each of its sub-nets. */
export class Classifier {
  #model;
  #scaling;

  constructor(model, scaling) {
    this.#model = model;
    this.#scaling = scaling;
  }

  /** `scaling` is {mean, std} of the pixels that the net was trained on. */
  static async load(url, scaling) {
    const model = await loadAndCompile(url, { accelerator: "wasm" });
    return new Classifier(model, scaling);
  }

  /** Returns the logits that a sub-net gives for an 8 by 8 digit, pixels from 0 to 16. */
  async logits(subnet, pixels) {
    const input = this.#input(subnet, pixels);
    const logits = await this.#run(subnet, input);
    input.delete();
    return logits;
  }

  /** Returns a function that runs a sub-net once, to be timed, and one that frees its input. */
  timed(subnet, pixels) {
    const input = this.#input(subnet, pixels);
    return { run: () => this.#run(subnet, input), free: () => input.delete() };
  }

  // A file of one net has one signature, whatever its name.
  #signature(subnet) {
    return this.#model.signatures[subnet] ?? this.#model;
  }

  #input(subnet, pixels) {
    const { mean, std } = this.#scaling;
    const [{ shape }] = this.#signature(subnet).getInputDetails();
    return new Tensor(Float32Array.from(pixels, (pixel) => (pixel - mean) / std), shape);
  }

  async #run(subnet, input) {
    const [output] = await this.#signature(subnet).run([input]);
    const logits = Array.from(output.toTypedArray());
    output.delete();
    return logits;
  }
}

/** Returns the probabilities that logits stand for. */
export function softmax(logits) {
  const highest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - highest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

/**
 * Returns the milliseconds of each function: the mean of its best slice, since whatever else the
 * machine does only ever adds to them. They take turns, so that a busy moment hits all of them.
 */
export async function bestMilliseconds(functions) {
  const repeats = [];
  for (const run of functions) {
    await run(); // the first run prepares
    const once = (await milliseconds(run, 20)) / 20;
    repeats.push(Math.ceil(SLICE_MS / Math.max(once, 0.01)));
  }
  const best = functions.map(() => Infinity);
  for (let slice = 0; slice < SLICES; slice++) {
    for (const [i, run] of functions.entries()) {
      best[i] = Math.min(best[i], (await milliseconds(run, repeats[i])) / repeats[i]);
      await new Promise((resolve) => setTimeout(resolve)); // lets the page answer the user
    }
  }
  return best;
}

async function milliseconds(run, times) {
  const begun = performance.now();
  for (let i = 0; i < times; i++) await run();
  return performance.now() - begun;
}
