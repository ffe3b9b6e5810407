// Asks the server that sent this page; answers are JSON, errors come with a sentence.

let waiting = 0;

function busy(change) {
  waiting += change;
  document.getElementById("busy").hidden = waiting === 0;
}

async function reason(response) {
  try {
    const body = await response.json();
    if (body?.error) return String(body.error);
  } catch {
    // no JSON: the status has to do
  }
  return `The server answered ${response.status} ${response.statusText}.`;
}

/** The JSON at an address of the server; throws an Error whose message can be shown. */
export async function get(where, { signal = null, quiet = false } = {}) {
  if (!quiet) busy(1);
  try {
    const response = await fetch(where, { signal, headers: { Accept: "application/json" } }).catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new Error("No connection to persyn view. Is it still running? What is shown may be old.");
    });
    if (!response.ok) throw Object.assign(new Error(await reason(response)), { status: response.status });
    return await response.json();
  } finally {
    if (!quiet) busy(-1);
  }
}

/** Call `look` every so many milliseconds while the page is seen and `look` answers true. */
export function poll(look, milliseconds, signal) {
  let timer = null;
  let goes = true;
  const next = () => {
    clearTimeout(timer);
    if (goes && !signal.aborted && !document.hidden) timer = setTimeout(once, milliseconds);
  };
  const once = async () => {
    goes = await look();
    next();
  };
  const seen = () => {
    if (document.hidden) clearTimeout(timer);
    else if (goes && !signal.aborted) once();
  };
  document.addEventListener("visibilitychange", seen, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer));
  next();
}
