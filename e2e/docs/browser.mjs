// Runs modules in headless Chromium, one after the other, each as a page of
// http://localhost:5173 (where development servers have theirs), and writes what
// they log to standard output.
//
//   node browser.mjs [--FLAG...] MODULE...
//
// Flags are Chromium's.
// It ends with the last one: with 1 if one of them threw.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { launch } from "../node/browser.js";

const { build } = createRequire(new URL("../node/package.json", import.meta.url))("esbuild");

/** Bundles a module with what reports its end. */
async function bundle(module) {
  const { outputFiles } = await build({
    stdin: {
      contents: `import(${JSON.stringify(module)}).then(() => ended(""), (e) => ended(String(e?.stack ?? e)))`,
      resolveDir: dirname(module),
    },
    bundle: true,
    format: "esm",
    platform: "browser",
    target: "esnext",
    write: false,
  });
  return outputFiles[0].text;
}

const isFlag = (argument) => argument.startsWith("--");
const modules = process.argv.slice(2).filter((argument) => !isFlag(argument));
const scripts = await Promise.all(modules.map(bundle));
const index = (n) =>
  `<!doctype html><link rel="icon" href="data:,"><title>snippet</title><script type="module" src="page${n}.js"></script>`;
const files = Object.fromEntries(
  scripts.flatMap((script, n) => [
    [`/${n}`, ["text/html; charset=utf-8", index(n)]],
    [`/page${n}.js`, ["text/javascript; charset=utf-8", script]],
  ]),
);
const server = createServer((request, response) => {
  const [type, text] = files[request.url] ?? ["text/plain", ""];
  response.writeHead(text ? 200 : 404, { "content-type": type }).end(text);
});
await new Promise((resolve) => server.listen(5173, "127.0.0.1", resolve));

const browser = await launch(process.argv.slice(2).filter(isFlag));
try {
  for (const n of modules.keys()) {
    const page = await browser.newPage();
    page.on("console", (message) => console.log(message.text()));
    page.on("pageerror", (error) => console.log(String(error)));
    const end = withResolvers();
    const patience = setTimeout(() => end.resolve("the module has not ended"), 120_000);
    await page.exposeFunction("ended", end.resolve);
    await page.goto(`http://localhost:5173/${n}`);
    const error = await end.promise;
    clearTimeout(patience);
    if (error) {
      console.error(error);
      process.exitCode = 1;
    }
    await page.close();
  }
} finally {
  await browser.close();
  server.close();
}

/** As Promise.withResolvers, which Node has from version 22 on. */
function withResolvers() {
  const all = {};
  all.promise = new Promise((resolve) => {
    all.resolve = resolve;
  });
  return all;
}
