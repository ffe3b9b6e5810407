// Makes foreign text safe to show: what would act on a reader is written as an escape, as the terminal does.

const ACTING = new RegExp(
  "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f" + // control characters but for tab and newline
    "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069" + // writing direction
    "\\u2028\\u2029\\ufff9-\\ufffb\\ufeff" + // separators, annotations, byte order
    "\\ud800-\\udfff\\u{e0000}-\\u{e007f}]", // half a character; invisible tags
  "gu",
);

function escaped(character) {
  const code = character.codePointAt(0);
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, "0")}`;
  if (code < 0x10000) return `\\u${code.toString(16).padStart(4, "0")}`;
  return `\\U${code.toString(16).padStart(8, "0")}`;
}

/** The text with every character that would act as an escape; lines and tabs stay. */
export function visible(text) {
  return String(text).replaceAll("\r\n", "\n").replace(ACTING, escaped);
}

/** In one line of at most so many characters. */
export function oneLine(text, longest = Infinity) {
  const line = visible(String(text).split(/\s+/).filter(Boolean).join(" "));
  return line.length <= longest ? line : `${line.slice(0, longest).trimEnd()} …`;
}

/** The place in a JavaScript string of its n-th character, as Python counts characters. */
export function place(text, characters) {
  let at = 0;
  for (let n = 0; n < characters && at < text.length; n += 1) {
    at += text.codePointAt(at) > 0xffff ? 2 : 1;
  }
  return at;
}
