// The address of a view: its path and its query hold all state, so that it can be shared.

const PAGES = new Set(["/", "/prompts", "/prompt", "/teachers", "/dead-letters", "/run-report"]);
let listener = () => {};

/** Path and query of the page that is shown. */
export function currentAddress() {
  return { path: location.pathname, params: new URLSearchParams(location.search) };
}

/** An address from a path and parameters; empty values are left out. */
export function address(path, params = {}) {
  const entries = params instanceof URLSearchParams ? [...params] : Object.entries(params);
  const kept = entries
    .flatMap(([key, value]) => (Array.isArray(value) ? value.map((one) => [key, one]) : [[key, value]]))
    .filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(kept).toString();
  return query ? `${path}?${query}` : path;
}

/** A copy of parameters with changes; null takes one away, a list repeats it. */
export function withChanges(params, changes) {
  const made = new URLSearchParams(params);
  for (const [key, value] of Object.entries(changes)) {
    made.delete(key);
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") made.append(key, one);
  }
  return made;
}

/** Go to an address as a link would; `replace` leaves no entry to go back to. */
export function go(where, replace = false) {
  if (replace) history.replaceState(history.state, "", where);
  else {
    history.replaceState({ scroll: window.scrollY }, "");
    history.pushState(null, "", where);
  }
  listener(currentAddress(), replace ? null : 0);
}

/** Have links between the pages change the address without loading everything anew. */
export function followLinks() {
  history.scrollRestoration = "manual";
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link || event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey || link.target) return;
    const url = new URL(link.href, location.href);
    if (url.origin !== location.origin || !PAGES.has(url.pathname) || url.hash) return;
    event.preventDefault();
    go(url.pathname + url.search);
  });
  window.addEventListener("popstate", (event) => listener(currentAddress(), event.state?.scroll ?? 0));
}

/** Call `back` with the address and the scroll position whenever the address changes. */
export function onAddress(back) {
  listener = back;
}
