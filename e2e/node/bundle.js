// Writes page.js, bundled for a browser, to standard output.

import { build } from "esbuild";
import { fileURLToPath } from "node:url";

const { outputFiles } = await build({
  entryPoints: [fileURLToPath(new URL("page.js", import.meta.url))],
  bundle: true,
  format: "iife",
  platform: "browser",
  write: false,
});
process.stdout.write(outputFiles[0].contents);
