// Serves a directory's pages by Vite's dev server, and prints its address.
//
//   node vite.js DIRECTORY CACHE

import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { createServer } from "vite";

const [root, cacheDir] = process.argv.slice(2);
const file = (path) => fileURLToPath(new URL(path, import.meta.url));

const server = await createServer({
  root,
  cacheDir,
  configFile: false,
  logLevel: "warn",
  plugins: [react()],
  resolve: {
    // From this repository. Your project installs the package, and needs neither of the two.
    alias: { "@culvert/web": file("../web/src/index.ts") },
    dedupe: ["@bufbuild/protobuf", "@connectrpc/connect"],
  },
  server: { host: "127.0.0.1", port: 0, fs: { allow: [file("."), file("../web/src")] } },
});
// Vite looks for a free port and takes it a moment later, when another program may have it.
for (let left = 5; !server.httpServer.listening; left--) {
  await server.listen().catch((e) => {
    if (left === 0 || !e.message.includes("already in use")) {
      throw e;
    }
  });
}
console.log(`127.0.0.1:${server.httpServer.address().port}`);
