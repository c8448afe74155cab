// How single values are told: numbers, verdicts, outcomes, a validity with its spread.
const NOT_KNOWN = "not recorded";
const OUTCOMES = new Map([
  [1, "✓ right"],
  [-1, "✗ wrong"],
  [0, "? not known"],
]);
const VERDICTS = new Map([
  [1, "✓ valid"],
  [-1, "✗ invalid"],
  [0, "– abstains"],
]);
const NAMES = new Map([
  ["student", "Student’s step"],
  ["teacher", "Teacher’s step"],
]);

function number(value) {
  if (value === null || value === undefined) return NOT_KNOWN;
  if (value === 0) return "0";
  if (Math.abs(value) < 0.0001) return "< 0.0001";
  return Math.abs(value) < 0.005 ? value.toPrecision(1) : value.toFixed(2);
}

function signed(value) {
  if (value === null) return NOT_KNOWN;
  const said = Math.abs(value).toFixed(2);
  return Number(said) === 0 ? said : (value > 0 ? "+" : "−") + said;
}

function outcome(value) {
  return OUTCOMES.get(value) ?? "outcome not recorded";
}

function count(n, one, many = `${one}s`) {
  return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}

/** Terms and what is said of them. */
function facts(pairs) {
  const list = el("dl", { class: "facts" });
  for (const [term, said] of pairs) {
    if (said === null) continue;
    list.append(el("div", {}, el("dt", {}, term), el("dd", {}, said)));
  }
  return list;
}

/** A validity from 0 to 1 as a bar, and its standard deviation as a whisker around its end. */
function validityBar(value, sd) {
  const spread = sd === null ? "" : `, standard deviation ${number(sd)}`;
  const bar = el("span", { class: "bar", role: "img", "aria-label": `local validity ${number(value)}${spread}` });
  const fill = el("span", { class: "fill" });
  fill.style.width = `${100 * value}%`;
  bar.append(fill);
  if (sd !== null) {
    const low = Math.max(value - sd, 0);
    const whisker = el("span", { class: "whisker" });
    whisker.style.left = `${100 * low}%`;
    whisker.style.width = `${100 * (Math.min(value + sd, 1) - low)}%`;
    bar.append(whisker);
  }
  return bar;
}

function validity(step) {
  if (step.validity === null) return NOT_KNOWN;
  const said = el("span", { class: "validity" }, `${number(step.validity)}`);
  said.append(step.sd === null ? " (sd not recorded)" : ` ± ${number(step.sd)}`, validityBar(step.validity, step.sd));
  return said;
}

function score(value, missing) {
  if (value !== null) return number(value);
  return missing ? short(`none (${missing.replaceAll("_", " ")})`) : NOT_KNOWN;
}

function verdict(step) {
  if (step.rule === null) return NOT_KNOWN;
  const said = el("span", { class: `rule${step.rule}` }, VERDICTS.get(step.rule) ?? String(step.rule));
  if (step.rule_reason) said.append(": ", el("bdi", {}, short(step.rule_reason, CHUNK)));
  return said;
}

function completions(step) {
  if (step.trials === null) return NOT_KNOWN;
  return step.trials ? `${step.successes} of ${step.trials} right` : "none run";
}

/** Smallest, mean and largest weight of a target's tokens. */
function spread(weights) {
  if (!weights.length) return { mean: null, said: "no token is learned" };
  let [least, most, sum] = [Infinity, -Infinity, 0];
  for (const weight of weights) {
    least = Math.min(least, weight);
    most = Math.max(most, weight);
    sum += weight;
  }
  const mean = sum / weights.length;
  const each = `on each of ${count(weights.length, "token")}`;
  return { mean, said: least === most ? `${number(mean)} ${each}` : `${number(least)} to ${number(most)}, mean ${number(mean)}, ${each}` };
}
