// Writes stretches of a text with marks in it: source positions in, text nodes and <mark>s out.

import { visible } from "./text.js";

/** A text and the stretches of it to be marked: [{ start, end, name, title }] in string positions. */
export class MarkedText {
  constructor(source, marks = []) {
    this.source = source;
    this.marks = marks
      .filter((mark) => mark.end > mark.start)
      .map((mark) => ({ ...mark, end: Math.min(mark.end, source.length) }));
  }

  /** Append source[start:end] to `parent`, marked where a mark lies. */
  write(parent, start, end) {
    const inside = this.marks.flatMap((mark) => [mark.start, mark.end]).filter((at) => at > start && at < end);
    const cuts = [...new Set([start, ...inside, end])].sort((a, b) => a - b);
    for (let i = 0; i + 1 < cuts.length; i += 1) {
      const text = document.createTextNode(visible(this.source.slice(cuts[i], cuts[i + 1])));
      parent.append(this.wrapped(text, cuts[i], cuts[i + 1]));
    }
    return parent;
  }

  /** A node that stands for source[start:end], inside the marks that touch that stretch. */
  wrapped(node, start, end) {
    let made = node;
    for (const mark of this.marks.filter((one) => one.start < end && one.end > start)) {
      const around = document.createElement("mark");
      around.className = mark.name;
      around.title = mark.title;
      around.append(made);
      made = around;
    }
    return made;
  }
}
