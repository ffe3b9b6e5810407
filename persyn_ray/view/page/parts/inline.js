// Inline Markdown: code, mathematics, bold and italic in a stretch of a text; all else stays as written.

import { math } from "./math.js";

// Each form is bounded, so that a hostile text costs time in proportion to its length.
const FORMS = [
  { name: "code", pattern: /(`{1,3})(?!`)([^\n]{1,2000}?[^`\n]|[^`\n])\1(?!`)/y },
  { name: "display", pattern: /\$\$([^$]{1,2000})\$\$/y },
  { name: "display", pattern: /\\\[([^]{1,2000}?)\\\]/y },
  { name: "math", pattern: /\\\(([^]{1,2000}?)\\\)/y },
  { name: "math", pattern: /\$(?=[^\s$])((?:\\[^\n]|[^$\n\\]){1,500})(?<!\s)\$(?![\d])/y },
  // Not inside of words and formulas: 2*3*4 and 2**3**2 keep their signs.
  { name: "strong", pattern: /(?<![\w)\]])\*\*(?=\S)([^\n]{1,1000}?\S|\S)\*\*(?![\w(])/y },
  { name: "em", pattern: /(?<![\w)\]*])\*(?=[^\s*])([^\n*]{1,500}?[^\s*]|[^\s*])\*(?![\w(*])/y },
];
const OPENS = /[`$\\*]/g;
// "$5 and $6" is money: what stands between two dollars must look like mathematics.
const MATHEMATICS = /[\\^_=+<>{}|]|^[A-Za-z]'?$|^-?[\d.,]+$|^[A-Za-z]\(|^[\dA-Za-z\s*/().,-]{1,24}$/;

function found(source, at, end) {
  for (const { name, pattern } of FORMS) {
    pattern.lastIndex = at;
    const match = pattern.exec(source);
    if (!match || at + match[0].length > end) continue;
    if (name === "math" && match[0][0] === "$" && !looksLikeMath(match[1])) continue;
    return { name, match };
  }
  return null;
}

function looksLikeMath(text) {
  return MATHEMATICS.test(text) && !/^\d[\d.,]*\s+[a-z]+\s/i.test(text);
}

function element(name, marked, at, match) {
  const whole = at + match[0].length;
  if (name === "math" || name === "display") {
    return marked.wrapped(math(match[1], match[0], name === "display"), at, whole);
  }
  const made = document.createElement(name);
  const inner = match.at(-1);
  const start = at + match[0].indexOf(inner, name === "code" ? match[1].length : name === "em" ? 1 : 2);
  if (name === "code") return marked.write(made, start, start + inner.length);
  inline(marked, made, start, start + inner.length);
  return made;
}

/** Append source[start:end] of the marked text to `parent`, with its inline forms as elements. */
export function inline(marked, parent, start, end) {
  const { source } = marked;
  let written = start;
  OPENS.lastIndex = start;
  for (let open = OPENS.exec(source); open && open.index < end; open = OPENS.exec(source)) {
    const at = open.index;
    const form = found(source, at, end);
    if (!form) continue;
    marked.write(parent, written, at);
    const position = at + form.match[0].length;
    parent.append(element(form.name, marked, at, form.match));
    written = position;
    OPENS.lastIndex = position;
  }
  if (written < end) marked.write(parent, written, end);
  return parent;
}
