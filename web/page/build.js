// Builds the doctor's page for the Go program to embed: bridge/internal/path/page.
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
const page = {
  "page.js": outputFiles[0].text,
  "index.html": read(new URL("index.html", import.meta.url)),
  "page.css": read(new URL("page.css", import.meta.url)),
};
for (const [name, text] of Object.entries(page)) {
  const to = new URL(`../../bridge/internal/path/page/${name}`, import.meta.url);
  if (!process.argv.includes("--check")) {
    writeFileSync(to, text);
  } else if (read(to) !== text) {
    console.error(`bridge/internal/path/page/${name} isn't what web/page builds: run npm run page in web`);
    process.exitCode = 1;
  }
}
