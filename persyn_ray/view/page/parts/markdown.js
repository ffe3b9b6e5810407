// Markdown as teachers write it: a marked text in, elements out. Links and images stay text; HTML is only text.

import { h } from "./elements.js";
import { inline } from "./inline.js";
import { math } from "./math.js";

const FENCE = /^\s{0,3}(`{3,12}|~{3,12})\s*([\w+#.-]{0,20})\s*$/;
// "#### 12" is how some tasks mark an answer: it stays as written.
const HEADING = /^(#{1,6})\s+(?![-+$]?[\d.,]+\s*$)/;
const RULE = /^\s{0,3}([-*_])(\s?\1){2,60}\s*$/;
const ITEM = /^(\s*)([-*+•]|\d{1,4}[.)])\s+/;
const QUOTE = /^\s{0,3}>\s?/;
const TABLE_RULE = /^\s*\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)*\|?\s*$/;
const DISPLAY = { "\\[": "\\]", $$: "$$" };

function linesOf(source) {
  const lines = [];
  let start = 0;
  for (const text of source.split("\n")) {
    lines.push({ start, end: start + text.length, text });
    start += text.length + 1;
  }
  return lines;
}

const opener = (text) => Object.keys(DISPLAY).find((open) => text.trimStart().startsWith(open));
const isTable = (lines, i) => lines[i].text.includes("|") && i + 1 < lines.length && TABLE_RULE.test(lines[i + 1].text);

function startsBlock(lines, i) {
  const { text } = lines[i];
  return [FENCE, HEADING, RULE, ITEM, QUOTE].some((one) => one.test(text)) || opener(text) || isTable(lines, i);
}

/** Append the whole marked text to `parent` as blocks. */
export function markdown(marked, parent) {
  const lines = linesOf(marked.source);
  let i = 0;
  while (i < lines.length) {
    const block = BLOCKS.find((one) => one.begins(lines, i));
    const next = block.write(marked, lines, i, parent);
    i = Math.max(next, i + 1);
  }
  return parent;
}

function writeFence(marked, lines, i, parent) {
  const [, fence, language] = FENCE.exec(lines[i].text);
  const closes = new RegExp(`^\\s{0,3}${fence[0]}{${fence.length},}\\s*$`);
  let last = i + 1;
  while (last < lines.length && !closes.test(lines[last].text)) last += 1;
  const code = document.createElement("code");
  if (last > i + 1) marked.write(code, lines[i + 1].start, lines[last - 1].end);
  parent.append(h("pre", { class: "code", tabindex: "0" }, language && h("span", { class: "language" }, language), code));
  return last + 1;
}

function writeDisplay(marked, lines, i, parent) {
  const { source } = marked;
  const open = opener(lines[i].text);
  const from = source.indexOf(open, lines[i].start);
  const to = source.indexOf(DISPLAY[open], from + 2);
  if (to < 0 || to - from > 3000) return writeParagraph(marked, lines, i, parent);
  const end = to + 2;
  const written = source.slice(from, end);
  const formula = math(written.slice(2, -2), written, true);
  let last = i;
  while (lines[last].end < end) last += 1;
  const paragraph = h("p", {}, marked.wrapped(formula, from, end));
  inline(marked, paragraph, end, lines[last].end);
  parent.append(paragraph);
  return last + 1;
}

function writeHeading(marked, lines, i, parent) {
  const [open, signs] = HEADING.exec(lines[i].text);
  const heading = h("p", { class: `heading level-${Math.min(4, signs.length)}`, role: "heading", "aria-level": 4 });
  parent.append(inline(marked, heading, lines[i].start + open.length, lines[i].end));
  return i + 1;
}

function writeList(marked, lines, i, parent) {
  const [, indent, sign] = ITEM.exec(lines[i].text);
  const ordered = /\d/.test(sign);
  const depth = Math.min(3, Math.floor(indent.replaceAll("\t", "  ").length / 2));
  const list = h(ordered ? "ol" : "ul", { class: `depth-${depth}` });
  let at = i;
  for (; at < lines.length; at += 1) {
    const item = ITEM.exec(lines[at].text);
    if (!item || item[1] !== indent || /\d/.test(item[2]) !== ordered || RULE.test(lines[at].text)) break;
    let last = at;
    while (last + 1 < lines.length && lines[last + 1].text.trim() && !startsBlock(lines, last + 1)) last += 1;
    list.append(inline(marked, h("li", { value: ordered ? parseInt(item[2], 10) : null }), lines[at].start + item[0].length, lines[last].end));
    at = last;
  }
  parent.append(list);
  return at;
}

function writeQuote(marked, lines, i, parent) {
  const quote = h("blockquote");
  let at = i;
  for (; at < lines.length && QUOTE.test(lines[at].text); at += 1) {
    const [open] = QUOTE.exec(lines[at].text);
    quote.append(inline(marked, h("p"), lines[at].start + open.length, lines[at].end));
  }
  parent.append(quote);
  return at;
}

function cellsOf({ start, text }) {
  const cells = [];
  let from = text.trimStart().startsWith("|") ? text.indexOf("|") + 1 : 0;
  for (let to = from; to <= text.length; to += 1) {
    if (to < text.length && (text[to] !== "|" || text[to - 1] === "\\")) continue;
    if (to < text.length || text.slice(from).trim()) cells.push([start + from, start + to]);
    from = to + 1;
  }
  return cells;
}

function writeTable(marked, lines, i, parent) {
  const row = (line, tag) => h("tr", {}, cellsOf(line).map(([from, to]) => inline(marked, h(tag), from, to)));
  const table = h("table", {}, row(lines[i], "th"));
  let at = i + 2;
  for (; at < lines.length && lines[at].text.includes("|"); at += 1) table.append(row(lines[at], "td"));
  parent.append(h("div", { class: "scroll", tabindex: "0" }, table));
  return at;
}

function writeParagraph(marked, lines, i, parent) {
  let last = i;
  while (last + 1 < lines.length && lines[last + 1].text.trim() && !startsBlock(lines, last + 1)) last += 1;
  parent.append(inline(marked, h("p"), lines[i].start, lines[last].end));
  return last + 1;
}

const at = (pattern) => (lines, i) => pattern.test(lines[i].text);
const BLOCKS = [
  { begins: (lines, i) => !lines[i].text.trim(), write: (_marked, _lines, i) => i + 1 },
  { begins: at(FENCE), write: writeFence },
  { begins: at(HEADING), write: writeHeading },
  { begins: at(RULE), write: (_marked, _lines, i, parent) => { parent.append(h("hr")); return i + 1; } },
  { begins: at(ITEM), write: writeList },
  { begins: at(QUOTE), write: writeQuote },
  { begins: (lines, i) => opener(lines[i].text), write: writeDisplay },
  { begins: isTable, write: writeTable },
  { begins: () => true, write: writeParagraph },
];
