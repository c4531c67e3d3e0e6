// Texts for people. Everything is pure.

const numbers = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** "90,210". */
export const count = (n: number) => numbers.format(n);

/** "3 calls". */
export const plural = (n: number, one: string, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** "12 B" or "1.5 KiB". */
export function bytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  for (; n >= 1023.95 && i < units.length - 1; i++) {
    n /= 1024;
  }
  return i === 0 ? `${n} B` : `${n.toFixed(n < 99.95 ? 1 : 0)} ${units[i]}`;
}

/** "< 1 ms", "12 ms", "1.2 s", "45 s", "1 m 30 s", "5 m", "2 h 5 m" or "3 d 4 h". */
export function duration(seconds: number): string {
  if (seconds < 0.0005) {
    return seconds > 0 ? "< 1 ms" : "0 s";
  }
  if (seconds < 0.9995) {
    return `${Math.round(seconds * 1000)} ms`;
  }
  if (seconds < 9.95 && !Number.isInteger(seconds)) {
    return `${seconds.toFixed(1)} s`;
  }
  const s = Math.round(seconds);
  const parts: [number, string][] = [
    [Math.floor(s / 86400), "d"],
    [Math.floor(s / 3600) % 24, "h"],
    [Math.floor(s / 60) % 60, "m"],
    [s % 60, "s"],
  ];
  const first = parts.findIndex(([n]) => n > 0);
  const two = parts.slice(first, first + 2).filter(([n]) => n > 0);
  return two.map(([n, unit]) => `${count(n)} ${unit}`).join(" ");
}

/** "0 /s", "0.02 /s", "3.5 /s" or "1,200 /s". */
export function rate(perSecond: number): string {
  const digits = perSecond === 0 || perSecond >= 99.95 ? 0 : perSecond >= 0.95 ? 1 : 2;
  return perSecond > 0 && perSecond < 0.005 ? "< 0.01 /s" : `${digits ? perSecond.toFixed(digits) : count(perSecond)} /s`;
}

/** The seconds from one time to a later one. culvert's clock made both: this machine's may be another. */
export const between = (from: string, to: string) => Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000);

/** "7 s ago", in whole seconds. */
export const ago = (then: string, at: string) => `${duration(Math.floor(between(then, at)))} ago`;

/** The local time, "14:03:22", with the day if that isn't at's. */
export function clock(time: string, at: string): string {
  const [t, now] = [new Date(time), new Date(at)];
  const two = (n: number) => String(n).padStart(2, "0");
  const day = (d: Date) => `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
  return `${day(t) === day(now) ? "" : `${day(t)} `}${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
}

/** The text with characters that can't be seen, or that change the order of others, in the form \u{202e}. */
export const visible = (text: string) =>
  text.replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu, (c) => `\\u{${(c.codePointAt(0) ?? 0).toString(16)}}`);
