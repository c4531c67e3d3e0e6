// Logs in at the admin address in headless Chromium, as a person does, and has another site's page
// try what it can do meanwhile: what ../admin_access_test.go says on standard input. What the
// browser saw is written to standard output as one object.
//
//   plan     { url, token, wrong, evil }: of the admin address, and of the other site
//   outcome  { asked, style, refused, inside, cookies, readable, logout, login, link, framed,
//              still, violations }

import { launch } from "./browser.js";

const chunks = [];
for await (const chunk of process.stdin) {
  chunks.push(chunk);
}
const plan = JSON.parse(Buffer.concat(chunks).toString());

const browser = await launch(["--host-resolver-rules=MAP *.test 127.0.0.1", "--ignore-certificate-errors"]);
try {
  const user = await browser.newContext();
  const page = await user.newPage();
  const outcome = { violations: [] };
  page.on("console", (m) => {
    if (/Content Security Policy/.test(m.text())) {
      outcome.violations.push(m.text());
    }
  });
  await page.goto(plan.url);
  outcome.asked = page.url();
  outcome.style = await page.evaluate(() => getComputedStyle(document.body).maxWidth);

  await submit(page, plan.wrong);
  outcome.refused = await page.locator("[role=alert]").innerText();

  await submit(page, plan.token);
  outcome.inside = page.url();
  outcome.cookies = (await user.cookies()).map(({ name, httpOnly, secure, sameSite, domain, path }) => ({
    name,
    httpOnly,
    secure,
    sameSite,
    domain,
    path,
  }));
  outcome.readable = await page.evaluate(() => document.cookie);

  if (plan.evil) {
    const evil = await user.newPage();
    outcome.logout = await post(evil, "logout", "");
    outcome.login = await post(evil, "login", plan.token);
    await evil.goto(plan.evil);
    outcome.link = await arrives(evil, () => evil.evaluate((to) => void location.assign(to), plan.url));
    await evil.goto(plan.evil);
    await evil.evaluate((to) => {
      const frame = document.createElement("iframe");
      frame.src = to;
      const loaded = new Promise((done) => frame.addEventListener("load", done));
      document.body.append(frame);
      return loaded;
    }, `${plan.url}login`);
    outcome.framed = await evil.frameLocator("iframe").locator("#token").count();
    await evil.close();
  }
  const again = await page.goto(plan.url);
  outcome.still = `${again.status()} ${page.url()}`;
  process.stdout.write(`${JSON.stringify(outcome)}\n`);
} finally {
  await browser.close();
}

async function submit(page, token) {
  await page.locator("#token").fill(token);
  await Promise.all([page.waitForNavigation(), page.locator("button").click()]);
}

/** Submits a form of the other site to the admin address, and returns the answer's status. */
async function post(page, path, token) {
  await page.goto(plan.evil);
  return arrives(page, () =>
    page.evaluate(
      ([to, token]) => {
        const form = document.createElement("form");
        form.method = "post";
        form.action = to;
        form.innerHTML = "<input name=token>";
        form.elements.token.value = token;
        document.body.append(form);
        form.submit();
      },
      [`${plan.url}${path}`, token],
    ),
  );
}

async function arrives(page, go) {
  const [response] = await Promise.all([page.waitForNavigation(), go()]);
  return response.status();
}
