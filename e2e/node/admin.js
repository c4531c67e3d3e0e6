// Uses the page of culvert's admin address in headless Chromium, as ../admin_page_test.go says.
//
//   node admin.js looks URL [DIRECTORY]  looks at each section, with answers that this program makes: hostile texts, much
//                                        that is wrong. With a directory, it writes pictures.
//   node admin.js life URL               what the page asks for, and when
//   node admin.js session URL            what the page does about a session that has ended, and ends one
//   node admin.js stop URL ID            stops a call of culvert's with the keyboard
//
// It prints a JSON array of findings; stop prints what the page showed.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { launch } from "./browser.js";
import { breaches, findCutText } from "./look.js";

const [command, url, argument] = process.argv.slice(2);
const sections = [
  "overview",
  "calls",
  "connections",
  "backends",
  "routes",
  "memory",
  "limits",
  "failures",
  "identity",
  "certificates",
  "configuration",
];
const paths = ["status", "calls", "connections", "backends", "routes", "memory", "limits", "failures", "certificates", "auth"];

// The last character turns the text behind it around.
const evil = "<img src=x onerror=ran=1><script>ran=1</script>\"'><svg onload=ran=1>&lt;b&gt;\u202e";
const seen = evil.replace("\u202e", "\\u{202e}"); // as the page shows it
const long = "a".repeat(512);

/** Returns the answers by path: those of testdata, with more of everything, and worse. */
function answers() {
  const golden = Object.fromEntries(
    paths.map((p) => [p, JSON.parse(readFileSync(new URL(`../../admin/testdata/api/${p}.json`, import.meta.url), "utf8"))]),
  );
  const call = golden.calls.calls[0];
  const hostile = Object.fromEntries(
    ["method", "route", "backend", "transport", "listener", "peer", "client", "identity"].map((f) => [f, evil]),
  );
  golden.calls.calls = ["client", "backend", "memory", "place", "answer", ""].flatMap((waits_for, i) => [
    { ...call, id: `call-${i}`, waits_for, waiting_seconds: waits_for === "" ? 0 : 3700 * i },
    { ...call, ...hostile, id: `evil-${i}`, waits_for, last_message: undefined },
  ]);
  golden.calls.calls.push({ ...call, method: `/${long}`, peer: long, identity: long, id: "a".repeat(64) }, call, call);
  golden.memory.calls = golden.calls.calls.slice(0, 4);
  golden.memory.connections.push({ peer: long, listener: evil, transport: "", calls: 0, memory_bytes: 0 });
  const failure = golden.failures.failures[0];
  golden.failures.failures.push(
    ...Array.from({ length: 200 }, (_, i) => ({
      ...failure,
      ...hostile,
      id: `f${i}`,
      origin: "upstream",
      reason: "",
      message: evil,
      cause: "",
    })),
    { ...failure, message: long, cause: long, origin: "client" },
  );
  golden.limits.last.push(
    { ...golden.limits.last[0], report_only: false, key: "origins", reason: "ORIGIN", detail: evil },
    { ...golden.limits.last[0], detail: long },
  );
  const backend = golden.backends.backends[0];
  golden.backends.backends.push(
    { ...backend, name: evil, state: "transient_failure", draining: false },
    { ...backend, name: "quiet", state: "idle", draining: false, addresses: [] },
  );
  golden.certificates.certificates.push({ ...golden.certificates.certificates[0], names: [evil, long], expires_in_seconds: -5 });
  golden.certificates.problems.push(evil);
  golden.certificates.acme.push(
    { ...golden.certificates.acme[0], name: long, problem: `${evil} ${long}` },
    { name: evil, on_demand: false, state: "obtaining", failures: 0, problem: "" },
  );
  const [issuer] = golden.auth.issuers;
  golden.auth.enforced = false;
  golden.auth.refused.push(
    { ...golden.auth.refused[0], key: "auth", issuer: "", cause: evil },
    { ...golden.auth.refused[0], issuer: long, cause: long },
  );
  golden.auth.rules.push({ name: evil, effect: "deny", calls: 90210 }, { name: "no rule allows", effect: "deny", calls: 0 });
  golden.auth.issuers.push(
    { ...issuer, name: evil, issuer: long, keys: 0, fetched: undefined, problem: `${evil} ${long}`, skipped: [{ id: evil, why: evil }] },
    { ...issuer, name: "file", next: undefined, failures: 0, problem: "", skipped: [] },
  );
  golden.auth.api_key_file[0].problem = `${evil} ${long}`;
  golden.auth.services[0].problem = `${evil} ${long}`;
  golden.auth.services.push({ ...golden.auth.services[0], name: "rate_limit", problem: "" });
  golden.status.configuration.rejected.push(evil, long);
  golden.status.drain = { state: "delayed", refuses_in: 4.2, calls: 3 };
  golden.status.problems.push(evil);
  return golden;
}

/** Lets the page have these answers. asked and queries have what it asks for. */
async function stub(page, given, asked = [], queries = []) {
  for (const path of paths) {
    await page.route(new RegExp(`/${path}(\\?.*)?$`), async (route) => {
      asked.push(path);
      queries.push(new URL(route.request().url()).search);
      const answer = given[path];
      await (answer === undefined ? route.abort() : route.fulfill({ json: answer }));
    });
  }
}

const shown = (page, title) =>
  page.locator(`body:has(#title:text-is("${title}")) #content[aria-busy=false]`).waitFor({ state: "attached" });

async function openSection(page, name) {
  await page.locator(`nav a[href="#${name}"]`).click();
  await page.locator(`nav a[href="#${name}"][aria-current=page]`).waitFor();
  await page.locator("#content[aria-busy=false]").waitFor({ state: "attached" });
}

/** Looks at what is shown. axe-core takes a second, so it sees the narrowest and the widest screen. */
async function check(page, width) {
  const found = await page.evaluate(findCutText, ".hidden, .skip, thead");
  return width === 390 || width === 1920 ? [...found, ...(await breaches(page))] : found;
}

async function look(browser, colorScheme, width) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
  const page = await context.newPage();
  const findings = [];
  page.on("pageerror", (e) => findings.push(`error: ${e}`));
  page.on("console", (m) => m.type() === "error" && findings.push(`console: ${m.text()}`));
  const given = answers();
  await stub(page, given);
  given.status = { ...given.status, token: false };
  await page.goto(url);
  await shown(page, "Overview");
  for (const name of sections) {
    await openSection(page, name);
    const found = await check(page, width);
    const { ran, made, text } = await page.evaluate(() => ({
      ran: globalThis.ran !== undefined,
      made: document.querySelectorAll("main img, main script, main svg").length,
      text: document.querySelector("main").textContent,
    }));
    if (ran || made > 0) {
      found.push(`a peer's text ran ${ran}, and made ${made} elements`);
    }
    if (!["connections", "routes"].includes(name) && !text.includes(seen)) {
      found.push(`the peer's text isn't shown as it came: ${text.slice(0, 2000)}`);
    }
    findings.push(...found.map((f) => `${name}: ${f}`));
    if (argument) {
      await page.screenshot({ path: join(argument, `${colorScheme}-${width}-${name}.png`), fullPage: name !== "failures" });
    }
  }
  await openSection(page, "calls");
  await page.locator("tr", { hasText: "evil-0" }).locator("button").press("Enter");
  findings.push(...(await check(page, width)).map((f) => `the question: ${f}`));
  if (argument) {
    await page.screenshot({ path: join(argument, `${colorScheme}-${width}-question.png`) });
  }
  await page.keyboard.press("Escape");
  given.status = { error: "no status" }; // which the page can't show
  await page.locator("#trouble button").waitFor();
  findings.push(...(await check(page, width)).map((f) => `in trouble: ${f}`));
  await context.close();
  return findings.map((f) => `${colorScheme} ${width}: ${f}`);
}

/** The page asks for what a person sees, while a person sees it. */
async function life(browser) {
  const findings = [];
  const page = await browser.newPage();
  await page.clock.install();
  const given = answers();
  const asked = [];
  const queries = [];
  await stub(page, given, asked, queries);
  const settled = async (ms) => {
    asked.length = 0;
    for (let passed = 0; passed < ms; passed += 500) {
      await page.clock.runFor(500);
      await page.evaluate(() => fetch("icon.svg")); // answers that were asked for have come
    }
    return [...asked];
  };
  const want = (what, holds) => holds || findings.push(what);
  const text = (id) => page.locator(id).textContent();

  await page.goto(`${url}#calls?order=waiting`);
  await shown(page, "Open calls");
  const refused = await page.evaluate(() => {
    try {
      document.getElementById("said").innerHTML = "<b>text</b>";
    } catch {
      return true;
    }
    return false;
  });
  want("the policy lets a text become elements", refused);
  let got = await settled(20_000);
  want(`a section asks for ${got}`, new Set(got).size === 2 && got.includes("calls") && got.includes("status") && got.length >= 8);

  const hide = (hidden) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  await hide(true);
  got = await settled(60_000);
  want(`a hidden page asks for ${got}`, got.length === 0);
  await hide(false);
  got = await settled(5000);
  want("a page that is seen again asks for nothing", got.length > 0);

  await page.locator("#pause").press("Enter");
  got = await settled(60_000);
  want(`a paused page asks for ${got}: ${await text("#state")}`, got.length === 0 && (await text("#state")) === "Paused");
  await page.locator("#pause").press("Enter");
  await settled(2000);

  const { status } = given;
  given.status = undefined; // no connection
  got = await settled(120_000);
  want(`without an answer, the page asks ${got.length} times in two minutes`, 3 <= got.length && got.length <= 8);
  want(
    `without an answer, it says ${await text("#trouble")}`,
    /No data from culvert: there is no connection\. What you see is from .* asks again in 30 s/.test(await text("#trouble")),
  );
  want("without an answer, the calls are gone", (await page.locator("tbody tr").count()) > 10);
  given.status = status;
  await page.locator("#trouble button").press("Enter");
  await page.locator("#trouble:empty").waitFor({ state: "attached" });

  // The row with the focus stays where it is while others come and go; at its end its neighbour has the focus.
  const button = (id) => page.locator("tr", { hasText: id }).locator("button");
  await button("call-3").focus();
  given.calls.calls.reverse();
  await settled(5000);
  want("the focus is lost when rows move", await button("call-3").evaluate((e) => e === document.activeElement));
  given.calls.calls = given.calls.calls.filter((c) => c.id !== "call-3");
  await settled(5000);
  want("the focus is lost when its row goes", await page.evaluate(() => document.activeElement.closest("tbody tr") !== null));

  await button("call-1").press("Enter");
  await page.locator("dialog .danger").press("Enter");
  await page.locator("#said:not(:empty)").waitFor(); // culvert itself has no such call
  want(`an end that fails: ${await text("#said")}`, /call-1 isn't stopped: no open call has this id/.test(await text("#said")));

  queries.length = 0;
  await page.locator("#field").selectOption("peer");
  await page.locator("#filter").fill("192.0.2.7 & more");
  await page.locator("#filter").press("Enter");
  await page.locator('.chips a[href*="peer="]').first().waitFor();
  await page.locator(".chips a", { hasText: "client doesn't read" }).press("Enter");
  await settled(5000);
  await page.locator("#order").selectOption("memory");
  await settled(5000);
  for (const query of ["peer=192.0.2.7+%26+more", "waits_for=client", "order=memory"]) {
    want(`the last query is ${queries.at(-1) || queries.at(-2)}, not with ${query}`, queries.slice(-2).join("").includes(query));
  }

  given.status = { ...status, version: "v9" };
  await settled(5000);
  want("another version isn't told", (await text("#program")).includes("reload this page"));

  // Without auth, one question is enough until the configuration changes.
  const { auth } = given;
  given.auth = { ...auth, enabled: false };
  asked.length = 0;
  await page.locator('nav a[href="#identity"]').press("Enter");
  await shown(page, "Identity");
  got = [...asked, ...(await settled(60_000))].filter((path) => path === "auth");
  want(`without auth, the page asks about it ${got.length} times`, got.length === 1);
  const said = await page.locator("#content").innerText();
  want(`without auth, the page says ${said}`, /^auth isn't set\b[^\n]*$/.test(said.trim()));
  given.auth = auth;
  given.status = { ...given.status, configuration: { ...status.configuration, version: "other" } };
  got = (await settled(20_000)).filter((path) => path === "auth");
  want(`with auth, the page asks about it ${got.length} times`, got.length >= 3);
  want("with auth, its issuers aren't shown", await page.locator("td", { hasText: "https://id.example.com" }).first().isVisible());
  await page.locator('nav a[href="#calls"]').press("Enter");
  await shown(page, "Open calls");

  given.calls = { ...given.calls, calls: [], open: 0, matching: 0 };
  await settled(5000);
  want("an empty table says nothing", await page.locator(".none").isVisible());
  return findings;
}

/** The page where culvert has a token: it leads to the form when the session has ended, and ends it if asked. */
async function session(browser) {
  const findings = [];
  const page = await browser.newPage();
  const visits = [];
  let posted = "";
  await page.route("http://culvert.example/**", async (route) => {
    const request = route.request();
    const path = new URL(request.url()).pathname.slice(1);
    if (request.isNavigationRequest()) {
      visits.push(path);
    }
    if (path === "logout") {
      posted = `${request.method()} ${request.headers()["culvert-admin"]}`;
      await route.fulfill({ status: 204 });
      return;
    }
    const { accept } = request.headers();
    await route.fulfill({ response: await route.fetch({ url: url + path, headers: { accept } }) }); // without the origin
  });
  const given = answers();
  await stub(page, given);
  await page.goto("http://culvert.example/#calls");
  await shown(page, "Open calls");
  await page.route("**/status", (route) => route.fulfill({ status: 401, body: "culvert: the admin address wants its token\n" }));
  await page.locator("#trouble a", { hasText: "Log in" }).press("Enter");
  await page.waitForURL("http://culvert.example/");
  await page.unroute("**/status");
  await stub(page, given);
  await shown(page, "Overview");
  await Promise.all([page.waitForEvent("load"), page.locator("#logout").press("Enter")]);
  if (posted !== "POST 1" || visits.length !== 3) {
    findings.push(`the page sent ${posted}, and went to ${visits.join(", ")}`);
  }
  given.status = { ...given.status, token: false };
  await page.goto(url);
  await shown(page, "Overview");
  if (await page.locator("#logout").isVisible()) {
    findings.push("without a token, a session can be ended");
  }
  return findings;
}

/** Stops the call with the keyboard alone, and returns what the page showed. */
async function stop(browser) {
  const page = await browser.newPage();
  await page.goto(url);
  await shown(page, "Overview");
  const tabTo = async (locator, what) => {
    for (let presses = 0; !(await locator.evaluate((e) => e === document.activeElement)); presses++) {
      if (presses > 100) {
        throw new Error(`the keyboard doesn't reach ${what}`);
      }
      await page.keyboard.press("Tab");
    }
  };
  await tabTo(page.locator('nav a[href="#calls"]'), "the section");
  await page.keyboard.press("Enter");
  await shown(page, "Open calls");
  const row = page.locator("tr", { hasText: argument });
  await row.waitFor();
  await tabTo(row.locator("button"), "the call's button");
  await page.keyboard.press("Enter");
  const dialog = page.locator("dialog");
  await dialog.waitFor();
  const asked = await dialog.innerText();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  await page.keyboard.press("Enter"); // the focus is back on the button
  await tabTo(dialog.locator(".danger"), "the dialog's button");
  await page.keyboard.press("Enter");
  await page.locator("#said:not(:empty)").waitFor();
  await row.waitFor({ state: "detached" });
  const said = await page.locator("#said").textContent();
  await page.locator('nav a[href="#failures"]').press("Enter");
  await page.locator("td", { hasText: argument }).first().waitFor();
  const failures = await page.locator("#content").innerText();
  await page.locator('nav a[href="#limits"]').press("Enter");
  await page.locator("td", { hasText: "http://" }).first().waitFor();
  const limits = await page.locator("#content").innerText();
  await page.locator('nav a[href="#configuration"]').press("Enter");
  await tabTo(page.locator("#level"), "the log's level");
  await page.keyboard.type("debug"); // selects it
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.locator("#said", { hasText: "The level of the log is debug" }).waitFor();
  const ran = await page.evaluate(() => globalThis.ran !== undefined);
  return { asked, said, failures, limits, ran };
}

const browser = await launch();
try {
  let result;
  if (command === "looks") {
    result = [];
    for (const colorScheme of ["light", "dark"]) {
      result.push(...(await Promise.all([390, 768, 1280, 1920].map((width) => look(browser, colorScheme, width)))).flat());
    }
  } else {
    result = await { life, session, stop }[command](browser);
  }
  console.log(JSON.stringify(result));
} finally {
  await browser.close();
}
