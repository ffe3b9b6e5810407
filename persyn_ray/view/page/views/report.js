// Report: the run's own report inside the viewer, or how to make one.

import { h } from "../parts/elements.js";

/** Show /report in a frame; a run without a report says which command makes it. */
export async function reportView({ root, run }) {
  if (run.has?.report === false) {
    root.replaceChildren(
      h("h1", {}, "Report"),
      h("p", { class: "lead" }, "This run has no report yet. It is written when the run ends, and at any time by"),
      h("pre", { class: "command" }, h("code", {}, "persyn report RUN")),
    );
    return;
  }
  root.replaceChildren(
    h("div", { class: "title-line" },
      h("h1", {}, "Report"),
      h("a", { href: "/report", target: "_blank", rel: "noopener" }, "Open it alone")),
    h("iframe", { class: "report", src: "/report", title: "Report of the run", sandbox: "allow-same-origin allow-popups" }),
  );
}
