// Builds the programs of culvert's own pages for it to embed: the doctor's, bridge/internal/path/page/page.js, and the
// admin address', admin/page/page.js.
//
//   node page/build.js          writes them
//   node page/build.js --check  fails if they aren't what this would write

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const read = (url) => readFileSync(url, "utf8").replaceAll("\r\n", "\n");
const pages = { page: "bridge/internal/path/page/page.js", "page/admin": "admin/page/page.js" };
for (const [from, to] of Object.entries(pages)) {
  const { outputFiles } = await build({
    absWorkingDir: fileURLToPath(new URL("..", import.meta.url)),
    entryPoints: [`${from}/main.ts`],
    bundle: true,
    format: "esm",
    target: "es2022",
    charset: "utf8",
    minify: true,
    write: false,
    banner: { js: `// Built from web/${from} by build.js.` },
  });
  const url = new URL(`../../${to}`, import.meta.url);
  if (!process.argv.includes("--check")) {
    writeFileSync(url, outputFiles[0].text);
  } else if (read(url) !== outputFiles[0].text) {
    console.error(`${to} isn't what web/${from} builds: run npm run page in web`);
    process.exitCode = 1;
  }
}
