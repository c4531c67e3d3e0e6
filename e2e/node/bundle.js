// Writes page.js, or the file that is named, to standard output, bundled for a browser.

import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { plugin } from "./culvert-web.js";

const { outputFiles } = await build({
  entryPoints: [fileURLToPath(new URL(process.argv[2] ?? "page.js", import.meta.url))],
  bundle: true,
  format: "iife",
  platform: "browser",
  plugins: [plugin],
  write: false,
});
process.stdout.write(outputFiles[0].contents);
