// Writes page.js, bundled for a browser, to standard output.

import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const { outputFiles } = await build({
  entryPoints: [fileURLToPath(new URL("page.js", import.meta.url))],
  bundle: true,
  format: "esm",
  platform: "browser",
  write: false,
});
process.stdout.write(outputFiles[0].contents);
