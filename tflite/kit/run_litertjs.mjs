// Runs a job in LiteRT.js, as run_litert.py does in LiteRT; spfde_keras/export/sparse_mode.py
// says what a job is. Usage: node run_litertjs.mjs FOLDER
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import vm from 'node:vm';

class InputError extends Error {}

const ARRAYS = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array };

async function loadLibrary() {
  const require = createRequire(import.meta.url);
  const wasm = path.join(path.dirname(require.resolve('@litertjs/core/package.json')), 'wasm/');
  // LiteRT.js is written for browsers: it finds itself in a web worker.
  globalThis.self = globalThis;
  globalThis.require = require;
  globalThis.importScripts = (file) => {
    globalThis.__filename = file;
    globalThis.__dirname = wasm;
    vm.runInThisContext(readFileSync(file, 'utf8'), { filename: file });
  };
  const library = await import('@litertjs/core');
  await library.loadLiteRt(wasm);
  return library;
}

async function load(library, file, signature) {
  const model = await library.loadAndCompile(readFileSync(file), { accelerator: 'wasm' });
  const names = Object.keys(model.signatures);
  const chosen = signature === null && names.length === 1 ? names[0] : signature;
  if (!names.includes(chosen)) {
    throw new InputError(`\`signature\` must be one of ${names.join(', ')}. Received: ${chosen}`);
  }
  return model.signatures[chosen];
}

// The tensors of each run, in the dtypes of the file.
function runs(library, runner, inputs, folder) {
  const details = runner.getInputDetails();
  const [names, given] = [details.map((d) => d.name), Object.keys(inputs)];
  if (String(names.sort()) !== String(given.sort())) {
    throw new InputError(`\`inputs\` must have the names ${names.join(', ')}. Received: ${given}`);
  }
  const counts = {};
  for (const { name, shape } of details) {
    const received = inputs[name].shape;
    if (String(received.slice(1)) !== String(shape.slice(1)) || received[0] % shape[0]) {
      const first = shape[0] === 1 ? 'samples' : `runs x ${shape[0]}`;
      throw new InputError(
        `Input '${name}' must be (${[first, ...shape.slice(1)].join(', ')}). ` +
          `Received: shape (${received.join(', ')})`,
      );
    }
    counts[name] = received[0] / shape[0];
  }
  const count = counts[names[0]];
  if (Object.values(counts).some((other) => other !== count)) {
    throw new InputError(
      '`inputs` must hold the same number of samples for every input. ' +
        `Received: ${JSON.stringify(counts)}`,
    );
  }
  const result = Array.from({ length: count }, () => ({}));
  for (const { name, shape, dtype } of details) {
    const bytes = readFileSync(path.join(folder, inputs[name].file));
    const array = new ARRAYS[inputs[name].dtype](new Uint8Array(bytes).buffer);
    const size = array.length / count;
    result.forEach((run, i) => {
      const values = new ARRAYS[dtype](array.subarray(i * size, (i + 1) * size));
      run[name] = new library.Tensor(values, [...shape]);
    });
  }
  return result;
}

async function run(folder) {
  const { files, signature, inputs, rounds } = JSON.parse(
    readFileSync(path.join(folder, 'job.json')),
  );
  const library = await loadLibrary();
  const models = [];
  for (const file of files) {
    const runner = await load(library, file, signature);
    models.push({ runner, inputs: runs(library, runner, inputs, folder), seconds: [] });
  }
  for (let round = 0; round < rounds; round++) {
    for (const model of models) {
      model.outputs = [];
      for (const given of model.inputs) {
        const start = performance.now();
        const tensors = await model.runner.run(given);
        model.seconds.push((performance.now() - start) / 1000);
        model.outputs.push(
          Object.entries(tensors).map(([name, tensor]) => {
            const array = tensor.toTypedArray();
            const shape = [...tensor.type.layout.dimensions];
            tensor.delete(); // or WebAssembly's memory fills up
            return { name, shape, dtype: tensor.type.dtype, array };
          }),
        );
      }
    }
  }
  return {
    seconds: models.map((model) => model.seconds),
    outputs: models.map((model, index) => write(model.outputs, index, folder)),
  };
}

function write(outputs, index, folder) {
  const described = {};
  outputs[0].forEach(({ name, shape, dtype }, i) => {
    const file = `output_${index}_${i}.bin`;
    writeFileSync(path.join(folder, file), Buffer.concat(outputs.map((o) => bytesOf(o[i].array))));
    described[name] = { shape: [outputs.length * shape[0], ...shape.slice(1)], dtype, file };
  });
  return described;
}

function bytesOf(array) {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength);
}

let result;
try {
  result = await run(process.argv[2]);
} catch (error) {
  const message = String(error?.message ?? error).split('\n')[0];
  result = { error: message, input: error instanceof InputError };
}
writeFileSync(path.join(process.argv[2], 'result.json'), JSON.stringify(result));
