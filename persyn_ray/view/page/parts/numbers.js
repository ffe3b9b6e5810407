// Writes numbers as the report does: thousands parted, a true minus, a dash where nothing is known.

export const UNKNOWN = "–";

const known = (value) => typeof value === "number" && Number.isFinite(value);
const minus = (text) => text.replace("-", "−");

/** 1234567 → "1,234,567". */
export function count(value) {
  return known(value) ? minus(Math.round(value).toLocaleString("en-US")) : UNKNOWN;
}

/** 1234567 → "1.23 M". */
export function compact(value) {
  if (!known(value)) return UNKNOWN;
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (Math.abs(value) >= size) {
      return `${minus((value / (unit === "k" ? 1e3 : size)).toPrecision(3))} ${unit}`;
    }
  }
  return Math.abs(value) < 100 && !Number.isInteger(value) ? fixed(value, 1) : count(value);
}

/** With so many digits after the point. */
export function fixed(value, digits = 2) {
  if (!known(value)) return UNKNOWN;
  const text = value.toFixed(digits);
  return minus(Number(text) === 0 ? text.replace("-", "") : text);
}

/** 0.123 → "12.3 %". */
export function percent(value, digits = 1) {
  return known(value) ? `${fixed(100 * value, digits)} %` : UNKNOWN;
}

/** An amount in the currency of the recipe's prices, in dollars by convention. */
export function money(value) {
  if (!known(value)) return UNKNOWN;
  const digits = Math.abs(value) >= 0.1 || value === 0 ? 2 : 4;
  return minus(`$${value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })}`);
}

/** 3725 → "1 h 2 min". */
export function duration(seconds) {
  if (!known(seconds)) return UNKNOWN;
  const whole = Math.round(seconds);
  if (whole < 60) return `${seconds < 10 && seconds > 0 ? fixed(seconds, 1) : whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** How long ago an ISO time was. */
export function ago(iso) {
  const then = Date.parse(iso ?? "");
  if (Number.isNaN(then)) return UNKNOWN;
  const seconds = (Date.now() - then) / 1000;
  return seconds < 5 ? "just now" : `${duration(seconds)} ago`;
}

/** Round values that part a range into about so many steps. */
export function ticks(low, high, about = 5) {
  if (!(high > low)) return [low];
  const rough = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}
