// Finds @culvert/web in this tree, as built by "npm run build" in ../../web. It has
// the packages of this directory, like in a program that installs it. Node takes
// resolve as a hook (node:module), and esbuild takes the plugin.

import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

const dist = new URL("../../web/dist/", import.meta.url);

/** The URL of a module of @culvert/web. */
function moduleURL(specifier) {
  const found = /^@culvert\/web(?:\/(\w+))?$/.exec(specifier);
  if (found && !existsSync(dist)) {
    throw new Error("@culvert/web is not built: npm run build --prefix web");
  }
  return found && new URL(`${found[1] ?? "index"}.js`, dist).href;
}

export function resolve(specifier, context, next) {
  const own = moduleURL(specifier);
  if (own) {
    return next(own, context);
  }
  const fromHere = !specifier.startsWith(".") && context.parentURL?.startsWith(dist.href);
  return next(specifier, fromHere ? { ...context, parentURL: import.meta.url } : context);
}

export const plugin = {
  name: "culvert-web",
  setup({ onResolve, resolve: find }) {
    onResolve({ filter: /^@culvert\/web/ }, ({ path }) => {
      const own = moduleURL(path);
      return own && { path: fileURLToPath(own) };
    });
    onResolve({ filter: /^@(bufbuild|connectrpc)\// }, ({ path, kind, importer }) =>
      importer.startsWith(fileURLToPath(dist)) ? find(path, { kind, resolveDir: dirname(fileURLToPath(import.meta.url)) }) : undefined,
    );
  },
};
