"use strict";
// Text of models is data: it becomes text nodes, never markup. Characters that steer the display without being seen
// (controls, bidirectional overrides, invisible ones) are spelled out; joiners stay, as scripts and emoji need them.
const STEERING =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\u{e0000}-\u{e0fff}]/gu;
const CHUNK = 4000;
const TOKEN_CHUNK = 1000;
const LEVELS = 8;

/** Make an element; strings among its children become text nodes. */
function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function spelledOut(char) {
  return `U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

/** The beginning of a text, for where only a string is possible. */
function plain(text, most = 40) {
  return text.slice(0, cutAt(text, most)).replace(STEERING, (char) => `[${spelledOut(char)}]`);
}

/** The beginning of what is meant to be a word or two. */
function short(text, most = 200) {
  return visible(text.length > most ? `${text.slice(0, cutAt(text, most))}…` : text);
}

/** Text as nodes. */
function visible(text) {
  const nodes = document.createDocumentFragment();
  let from = 0;
  for (const found of text.matchAll(STEERING)) {
    nodes.append(text.slice(from, found.index), el("span", { class: "steering" }, spelledOut(found[0])));
    from = found.index + found[0].length;
  }
  nodes.append(text.slice(from));
  return nodes;
}

/** Where to cut a text so that no character is torn apart. */
function cutAt(text, at) {
  const code = text.charCodeAt(at);
  return code >= 0xdc00 && code <= 0xdfff ? at + 1 : at;
}

/** A button that puts the next part before itself, and goes when all is there. */
function more(box, total, unit, next) {
  const button = el("button", { type: "button", class: "more" });
  let shown = 0;
  const advance = () => {
    const [nodes, end] = next(shown);
    const first = shown === 0;
    shown = end;
    if (first) box.append(nodes);
    else button.before(nodes);
    if (shown >= total) return button.remove();
    button.textContent = `Show more: ${shown.toLocaleString("en")} of ${total.toLocaleString("en")} ${unit} shown`;
    if (first) box.append(button);
  };
  button.addEventListener("click", advance);
  advance();
  return box;
}

/** A block of text, long ones in parts. */
function textBlock(text, attributes = {}) {
  const box = el("div", { dir: "auto", ...attributes, class: `text ${attributes.class ?? ""}` });
  return more(box, text.length, "characters", (from) => {
    const end = Math.min(cutAt(text, from + CHUNK), text.length);
    return [visible(text.slice(from, end)), end];
  });
}

/** How dark a weight is shaded: 0 for none, LEVELS for the largest of the page. */
function level(weight, largest) {
  if (!(weight > 0) || !(largest > 0)) return 0;
  return Math.min(Math.ceil((LEVELS * weight) / largest), LEVELS);
}

/** A block of tokens, each shaded by its weight. */
function tokenBlock(tokens, weights, largest) {
  const box = el("div", { dir: "auto", class: "text tokens" });
  return more(box, tokens.length, "tokens", (from) => {
    const end = Math.min(from + TOKEN_CHUNK, tokens.length);
    const nodes = document.createDocumentFragment();
    for (let index = from; index < end; index += 1) {
      const token = tokens[index];
      const span = el("span", { class: `t w${level(weights[index], largest)}`, title: `weight ${number(weights[index])}` });
      span.append(visible(token.slice(0, CHUNK).replaceAll("\n", "↵\n")));
      if (token.length > CHUNK) span.append(` (${token.length - CHUNK} more characters)`);
      nodes.append(span);
    }
    return [nodes, end];
  });
}
