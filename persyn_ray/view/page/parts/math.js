// LaTeX as MathML, by the vendored temml, loaded when a text first needs it; its source until then and on errors.

import { h } from "./elements.js";
import { visible } from "./text.js";

const LIMITS = { throwOnError: true, trust: false, maxExpand: 200, maxSize: [4, 20], strict: false };
const MOST = 400; // formulas a page; the rest stays source
let loading = null;
let queue = [];

function load() {
  loading ??= new Promise((resolve, reject) => {
    document.head.append(h("link", { rel: "stylesheet", href: "/static/vendor/temml/temml.css" }));
    const script = h("script", { src: "/static/vendor/temml/temml.min.js", onload: resolve, onerror: reject });
    document.head.append(script);
  });
  return loading;
}

function draw({ element, latex, display }) {
  const place = document.createElement("span");
  try {
    window.temml.render(latex, place, { ...LIMITS, displayMode: display });
  } catch {
    return; // what temml cannot read stays as it was written
  }
  element.replaceChildren(...place.childNodes);
  element.classList.add("drawn");
}

async function drawQueue() {
  const batch = queue.slice(0, MOST);
  queue = [];
  try {
    await load();
  } catch {
    return;
  }
  for (const one of batch) if (one.element.isConnected) draw(one);
}

/** An element with a formula: `latex` between the delimiters, `written` with them. */
export function math(latex, written, display) {
  const text = visible(written);
  const element = h("span", { class: display ? "math display" : "math", title: text }, text);
  if (queue.length === 0) setTimeout(drawQueue, 0);
  queue.push({ element, latex, display });
  return element;
}
