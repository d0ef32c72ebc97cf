import { Tensor, loadAndCompile } from "@litertjs/core";

/** A .tflite file that trains (spfde_keras.export_trainable_tflite), and what it has learned. */
export class Learner {
  #signatures;

  constructor(model) {
    this.#signatures = model.signatures;
  }

  static async load(url) {
    return new Learner(await loadAndCompile(url, { accelerator: "wasm" }));
  }

  /** How many samples an update takes. */
  get batch() {
    return this.#shape("train", "y")[0];
  }

  /** How many blocks have a learning rate of their own. */
  get blocks() {
    return this.#shape("train", "rate")[0];
  }

  /** How many of them can be frozen. */
  get stages() {
    return Object.keys(this.#signatures).filter((name) => name.startsWith("train_")).length;
  }

  /** How many samples there is room for. */
  get samples() {
    return this.#shape("sieve", "random")[0];
  }

  get #resting() {
    return this.#shape("sieve", "shuffle")[0];
  }

  /** Returns the outputs for one sample. */
  async infer(pixels) {
    const [outputs] = Object.values(await this.#call("infer", { x: pixels }));
    return Array.from(outputs);
  }

  /**
   * Makes one update with the first `stage` blocks frozen.
   *
   * `x` are the pixels of a batch, one sample after another, `y` its labels, `sample` its ids, and
   * `rate` a learning rate for each block. Returns the loss, and which samples were right before.
   */
  async train(stage, { x, y, sample, rate }) {
    const { loss, correct } = await this.#call(staged("train", stage), { x, y, sample, rate });
    if (!Number.isFinite(loss[0])) throw new Error("an update changed nothing: its loss is not finite");
    return { loss: loss[0], correct: Array.from(correct) };
  }

  /** Changes the masks: `share` of the kept weights are dropped, and as many grow, at random. */
  async mutate(stage, share) {
    const random = randoms(this.#shape("mutate", "random")[0]);
    const shares = new Array(this.blocks).fill(share);
    const { stayed } = await this.#call(staged("mutate", stage), { share: shares, random });
    return stayed[0];
  }

  /** Exchanges samples. */
  async sieve() {
    await this.#call("sieve", { random: randoms(this.samples), shuffle: randoms(this.#resting) });
  }

  /** Returns the ids of the samples that rest. */
  async resting() {
    const { member } = await this.#call("member", {});
    return new Set(Array.from(member.keys()).filter((id) => !member[id]));
  }

  /** Returns all that was learned, as one Float32Array. */
  async save() {
    return (await this.#call("save", {})).state;
  }

  /** Takes back what `save` gave; returns whether it is of such a file. */
  async restore(state) {
    if (state.length !== this.#shape("restore", "state")[0]) return false;
    return (await this.#call("restore", { state })).restored[0] === 1;
  }

  #shape(signature, input) {
    const details = this.#signatures[signature].getInputDetails();
    return [...details.find(({ name }) => name === input).shape];
  }

  async #call(name, values) {
    const signature = this.#signatures[name];
    const inputs = {};
    for (const { name: input, shape, dtype } of signature.getInputDetails()) {
      const array = dtype === "int32" ? Int32Array.from(values[input]) : Float32Array.from(values[input]);
      inputs[input] = new Tensor(array, [...shape]);
    }
    const outputs = await signature.run(inputs);
    for (const tensor of Object.values(inputs)) tensor.delete(); // or WebAssembly's memory fills up
    return Object.fromEntries(
      Object.entries(outputs).map(([output, tensor]) => {
        const array = tensor.toTypedArray().slice();
        tensor.delete();
        return [output, array];
      }),
    );
  }
}

const staged = (name, stage) => (stage ? `${name}_${stage}` : name);

const randoms = (count) => Float32Array.from({ length: count }, Math.random);
