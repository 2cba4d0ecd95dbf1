// What index.html does with the bundle: check it, time it, classify images. No library is needed but
// onnxruntime-web, which the caller imports. Runs in browsers and, for tests, in Node.

const WARM_UP_RUNS = 20;
const SAMPLES = 200;
const SECONDS = 2;
const CLOCK_MS = 2; // a sample takes as many runs as fill this: browsers round their clock to 0.1 ms
const TOP = 3;

// The bundle ---------------------------------------------------------------------------------------

/** Fetches manifest, golden outputs and model, and returns what the functions below work on. */
export async function load(ort, folder) {
  const fetched = async (name) => {
    const answer = await fetch(new URL(name, folder));
    if (!answer.ok) throw new Error(`${name}: ${answer.status} ${answer.statusText}`);
    return answer.arrayBuffer();
  };
  const manifest = JSON.parse(new TextDecoder().decode(await fetched("manifest.json")));
  const model = await fetched(manifest.file);
  await checkDigest(model, manifest.file, manifest);
  const golden = readNpz(await fetched("golden.npz"));
  ort.env.wasm.numThreads = 1; // more would need cross-origin isolation, and the report has one
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  return { ort, manifest, golden, session };
}

async function checkDigest(data, name, manifest) {
  if (!globalThis.crypto?.subtle) return; // only there on https and localhost
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  const text = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (text !== manifest.files[name].sha256) throw new Error(`${name} is not the file that was shipped`);
}

/** Returns the arrays of a stored (not deflated) .npz file by name: {shape, data}. */
export function readNpz(buffer) {
  const view = new DataView(buffer);
  const arrays = {};
  let at = 0;
  while (view.getUint32(at, true) === 0x04034b50) {
    const size = view.getUint32(at + 18, true);
    const nameLength = view.getUint16(at + 26, true);
    const start = at + 30 + nameLength + view.getUint16(at + 28, true);
    const name = new TextDecoder().decode(new Uint8Array(buffer, at + 30, nameLength));
    arrays[name.replace(/\.npy$/, "")] = readNpy(buffer.slice(start, start + size));
    at = start + size;
  }
  return arrays;
}

const TYPES = { "|u1": Uint8Array, "<f4": Float32Array, "<i8": BigInt64Array };

function readNpy(buffer) {
  const length = new DataView(buffer).getUint16(8, true);
  const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, 10, length));
  const shape = header.match(/'shape': \(([^)]*)\)/)[1].split(",").filter((part) => part.trim());
  const type = TYPES[header.match(/'descr': '([^']+)'/)[1]];
  return { shape: shape.map(Number), data: new type(buffer.slice(10 + length)) };
}

// The model ----------------------------------------------------------------------------------------

async function logitsOf(bundle, pixels) {
  const { height, width, channels, name } = bundle.manifest.input;
  const image = new bundle.ort.Tensor("uint8", pixels, [1, height, width, channels]);
  const answer = await bundle.session.run({ [name]: image });
  return answer[bundle.manifest.output.name].data;
}

const argmax = (values) => values.reduce((best, value, i) => (value > values[best] ? i : best), 0);

/** Returns how close the outputs are to those of the machine that made the bundle, as run.py does. */
export async function compareGolden(bundle) {
  const { images, logits } = bundle.golden;
  const [count, classes] = logits.shape;
  const size = images.data.length / count;
  let agree = 0;
  let difference = 0;
  for (let i = 0; i < count; i++) {
    const here = await logitsOf(bundle, images.data.slice(i * size, (i + 1) * size));
    const expected = logits.data.slice(i * classes, (i + 1) * classes);
    agree += argmax(here) === argmax(expected);
    for (let k = 0; k < classes; k++) {
      const apart = Math.abs(here[k] - expected[k]);
      if (!(apart <= difference)) difference = apart; // a NaN stays
    }
  }
  const tolerance = bundle.manifest.golden.tolerance;
  return { passed: agree === count && difference <= tolerance, images: count, agree, difference, tolerance };
}

/** Returns the likeliest classes of one image of the network's size, best first. */
export async function classify(bundle, pixels) {
  const logits = Array.from(await logitsOf(bundle, pixels));
  const largest = Math.max(...logits);
  const odds = logits.map((value) => Math.exp(value - largest));
  const total = odds.reduce((sum, value) => sum + value, 0);
  return odds
    .map((value, i) => ({ class: bundle.manifest.classes[i], probability: value / total }))
    .sort((one, other) => other.probability - one.probability)
    .slice(0, TOP);
}

/** Returns the median time of one image in milliseconds, one image at a time, one thread. */
export async function measure(bundle) {
  const { images } = bundle.golden;
  const pixels = images.data.slice(0, images.data.length / images.shape[0]);
  for (let i = 0; i < WARM_UP_RUNS; i++) await logitsOf(bundle, pixels);
  const times = [];
  let runs = 0;
  const begin = performance.now();
  while (times.length < SAMPLES && performance.now() - begin < 1000 * SECONDS) {
    const start = performance.now();
    let count = 0;
    let elapsed = 0;
    for (; elapsed < CLOCK_MS; elapsed = performance.now() - start, count++) await logitsOf(bundle, pixels);
    times.push(elapsed / count);
    runs += count;
  }
  times.sort((one, other) => one - other);
  return { median_ms: times[times.length >> 1], runs };
}

// Images -------------------------------------------------------------------------------------------

/** Returns RGB bytes of the network's size from RGBA bytes without transparency. */
export function toContract(rgba, rows, columns, contract) {
  const { height, width, resize } = contract;
  let image = { data: withoutAlpha(rgba), rows, columns };
  if (rows === height && columns === width) return image.data;
  let tall = rows;
  let wide = columns;
  if (resize === "crop") {
    if (columns / rows >= width / height) wide = (width / height) * rows;
    else tall = columns / (width / height);
  }
  const top = (rows - tall) * 0.5;
  const left = (columns - wide) * 0.5;
  const down = (from) => resampled(from, top, top + tall, height, true);
  const across = (from) => resampled(from, left, left + wide, width, false);
  // The order of Pillow 13, as in training and in run.py.
  const heightFirst = height < rows && rows - height > 2 * (columns - width);
  image = heightFirst ? across(down(image)) : down(across(image));
  return image.data;
}

function withoutAlpha(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    for (let channel = 0; channel < 3; channel++) rgb[to++] = rgba[from + channel];
  }
  return rgb;
}

/** Pillow's bilinear filter along one direction: a triangle that grows when shrinking, weights of
 * 22 bits, rounded to 8 bits. A canvas would resample in another way in every browser. */
function resampled(image, begin, end, size, vertical) {
  const length = vertical ? image.rows : image.columns;
  if (begin === 0 && end === length && size === length) return image;
  const rows = vertical ? size : image.rows;
  const columns = vertical ? image.columns : size;
  const data = new Uint8Array(rows * columns * 3);
  [begin, end] = [Math.fround(begin), Math.fround(end)]; // as Pillow holds them
  const scale = Math.fround(end - begin) / size;
  const support = Math.max(scale, 1);
  const step = vertical ? image.columns * 3 : 3; // to the next pixel that is added
  for (let index = 0; index < size; index++) {
    const centre = begin + (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(length, Math.trunc(centre + support + 0.5));
    const weights = [];
    for (let i = first; i < last; i++) weights.push(Math.max(0, 1 - Math.abs(i - centre + 0.5) / support));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    const whole = weights.map((weight) => Math.floor((weight / sum) * 4194304 + 0.5));
    const lines = vertical ? columns : rows;
    for (let line = 0; line < lines; line++) {
      const source = vertical ? (first * columns + line) * 3 : (line * image.columns + first) * 3;
      const target = vertical ? (index * columns + line) * 3 : (line * columns + index) * 3;
      for (let channel = 0; channel < 3; channel++) {
        let total = 0;
        for (let i = 0; i < whole.length; i++) total += whole[i] * image.data[source + i * step + channel];
        data[target + channel] = Math.min(Math.floor(total / 4194304 + 0.5), 255);
      }
    }
  }
  return { data, rows, columns };
}
