/** Returns the element of the page with an id. */
export const element = (id) => document.getElementById(id);

const DIGITS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

/** Shows ten columns, one for each digit. */
export function showProbabilities(probabilities) {
  const best = argmax(probabilities);
  const columns = DIGITS.map((digit) => {
    const share = probabilities[digit];
    const column = node("div", share > 0 && digit === best ? "column best" : "column");
    column.title = column.ariaLabel = `${digit}: ${percent(share)}`;
    column.role = "img";
    const bar = node("i");
    bar.style.setProperty("--share", share);
    column.append(bar, node("span", "", digit));
    return column;
  });
  element("probabilities").replaceChildren(...columns);
}

/** Says what the sub-net answers, and whether both files agree. */
export function showAnswer(subnet, probabilities, dense, sparse) {
  const digit = argmax(probabilities);
  const blank = probabilities[digit] === 0;
  element("digit").textContent = blank ? "–" : digit;
  element("sentence").textContent = blank
    ? "Draw a digit, or take a sample."
    : `${subnet} says ${digit}, with a probability of ${percent(probabilities[digit])}.`;
  const scale = Math.max(...dense.map(Math.abs));
  const error = Math.max(...dense.map((logit, i) => Math.abs(logit - sparse[i]))) / scale;
  element("agreement").textContent =
    `The outputs of the two files differ by ${error.toExponential(0)} of their scale.`;
}

/** Shows latency and sizes of both files as bars, and says what the sparse one gains. */
export function showComparison(subnet, files, latency) {
  const { dense, sparse } = files;
  element("comparison").replaceChildren(
    measure(`Latency of ${subnet}`, latency, milliseconds, "faster"),
    measure("File", { dense: dense.bytes, sparse: sparse.bytes }, megabytes, "smaller"),
    measure("File, compressed by gzip", { dense: dense.gzip_bytes, sparse: sparse.gzip_bytes }, megabytes, "smaller"),
  );
  // On one machine two measurements of the same thing differ by as much.
  const faster = latency.dense / latency.sparse > 1.15;
  element("verdict").textContent = faster
    ? "Both files hold the same weights; LiteRT skips the zeros of the sparse one. Each the best of 25 measurements, taken in turn."
    : "No faster: LiteRT has no sparse kernels for this net and expands its weights when it loads. spfde inspect says why.";
}

function measure(title, values, text, better) {
  const group = node("div", "measure");
  const heading = node("h3", "", title);
  const ratio = values.dense / values.sparse;
  if (ratio > 1.15) heading.append(node("b", "", `${ratio.toFixed(1)}× ${better}`));
  group.append(heading);
  const longest = Math.max(values.dense, values.sparse);
  for (const kind of ["dense", "sparse"]) {
    const row = node("div", `bar ${kind}`);
    const bar = node("i");
    bar.style.setProperty("--share", values[kind] / longest);
    row.append(node("span", "", kind), bar, node("span", "", text(values[kind])));
    group.append(row);
  }
  return group;
}

function node(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function argmax(values) {
  return values.indexOf(Math.max(...values));
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const milliseconds = (value) => `${value.toFixed(value < 1 ? 3 : 2)} ms`;
const megabytes = (value) => `${(value / 1e6).toFixed(2)} MB`;
