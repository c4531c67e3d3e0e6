// The texts that the page of the admin address shows.

import { ago, between, bytes, clock, count, duration, plural, rate, visible } from "../../page/admin/format.js";
import { equal, test } from "../harness.js";

test("numbers are for people", () => {
  equal(count(90210), "90,210");
  equal(`${plural(1, "call")}, ${plural(0, "call")}, ${plural(2, "address", "addresses")}`, "1 call, 0 calls, 2 addresses");
  for (const [n, want] of [
    [0, "0 B"],
    [1023, "1023 B"],
    [1024, "1.0 KiB"],
    [102_348, "99.9 KiB"],
    [102_400, "100 KiB"],
    [1_048_575, "1.0 MiB"],
    [20_971_520, "20.0 MiB"],
    [2 ** 50, "1024 TiB"],
  ] as const) {
    equal(bytes(n), want);
  }
  for (const [n, want] of [
    [0, "0 /s"],
    [0.001, "< 0.01 /s"],
    [0.0167, "0.02 /s"],
    [0.99, "1.0 /s"],
    [12.34, "12.3 /s"],
    [99.97, "100 /s"],
    [1234.5, "1,235 /s"],
  ] as const) {
    equal(rate(n), want);
  }
});

test("durations have at most two units", () => {
  for (const [seconds, want] of [
    [0, "0 s"],
    [0.0001, "< 1 ms"],
    [0.012, "12 ms"],
    [0.9999, "1.0 s"],
    [1.25, "1.3 s"],
    [7, "7 s"],
    [9.97, "10 s"],
    [59.6, "1 m"],
    [90, "1 m 30 s"],
    [300, "5 m"],
    [3599.7, "1 h"],
    [7500, "2 h 5 m"],
    [7201, "2 h"],
    [864_000, "10 d"],
    [273_600, "3 d 4 h"],
    [86_400_000, "1,000 d"],
  ] as const) {
    equal(duration(seconds), want);
  }
});

test("times are culvert's, whatever the clock here says", () => {
  const at = "2026-11-22T12:01:30.9Z";
  equal(ago("2026-11-22T12:01:23Z", at), "7 s ago");
  equal(ago("2026-11-22T12:01:31Z", at), "0 s ago"); // looks aren't at one moment
  equal(between("2026-11-22T12:00:00Z", "2026-11-22T12:01:30Z"), 90);
  const local = new Date(2026, 10, 22, 9, 8, 7);
  equal(clock(local.toISOString(), local.toISOString()), "09:08:07");
  equal(clock(local.toISOString(), new Date(2026, 10, 23, 9).toISOString()), "2026-11-22 09:08:07");
});

test("a text shows characters that can't be seen", () => {
  equal(visible("/shop.v1.Orders/Wätch 注文 <b>&amp;"), "/shop.v1.Orders/Wätch 注文 <b>&amp;");
  equal(visible("a\u202eb\u0000\u001b[2J\u200b\n\ud800\u{e0001}"), "a\\u{202e}b\\u{0}\\u{1b}[2J\\u{200b}\\u{a}\\u{d800}\\u{e0001}");
});
