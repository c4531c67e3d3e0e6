// Builds the program of the doctor's page for culvert to embed: bridge/internal/path/page/page.js.
//
//   node page/build.js          writes it
//   node page/build.js --check  fails if it isn't what this would write

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const read = (url) => readFileSync(url, "utf8").replaceAll("\r\n", "\n");
const { outputFiles } = await build({
  absWorkingDir: fileURLToPath(new URL("..", import.meta.url)),
  entryPoints: ["page/main.ts"],
  bundle: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  minify: true,
  write: false,
  banner: { js: "// Built from web/page by build.js." },
});
const to = new URL("../../bridge/internal/path/page/page.js", import.meta.url);
if (!process.argv.includes("--check")) {
  writeFileSync(to, outputFiles[0].text);
} else if (read(to) !== outputFiles[0].text) {
  console.error("bridge/internal/path/page/page.js isn't what web/page builds: run npm run page in web");
  process.exitCode = 1;
}
