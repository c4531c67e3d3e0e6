// Builds ../page from src, for the Go program to embed.
//
//   node build.mjs          writes it
//   node build.mjs --check  fails if ../page isn't what src builds
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const read = (path) => readFileSync(join(here, path), "utf8").replaceAll("\r\n", "\n");

// The page's Go test computes the same sum, and so detects an old bundle without
// Node. The sum is the SHA-256 of each path, its size in bytes and its content.
function sumSources() {
  const sum = createHash("sha256");
  const sources = readdirSync(join(here, "src"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) =>
      join(entry.parentPath, entry.name)
        .slice(here.length + 1)
        .replaceAll("\\", "/"),
    );
  for (const path of [...sources, "build.mjs", "package-lock.json", "package.json", "tsconfig.json"].sort()) {
    const text = Buffer.from(read(path));
    sum.update(`${path} ${text.length}\n`).update(text);
  }
  return sum.digest("hex");
}

// Returns the notices of the bundled packages: each licence from its
// package.json, and each copyright from the comments of its bundled files.
function collectNotices(files) {
  const packages = new Map();
  for (const file of files.filter((f) => f.includes("node_modules/"))) {
    const [, root] = file.match(/^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//);
    const notices = packages.get(root) ?? new Set();
    for (const [comment] of read(file).matchAll(/^(?:\/\/.*\n)+|\/\*[\s\S]*?\*\//gm)) {
      if (comment.includes("Copyright")) {
        notices.add(comment.replace(/^(\/\/|\/\*+| ?\*\/?) ?/gm, "").trim());
      }
    }
    packages.set(root, notices);
  }
  const parts = [...packages]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([root, notices]) => {
      const { name, version, license } = JSON.parse(read(join(root, "package.json")));
      return [`${name} ${version}`, `Licence: ${license}`, ...notices].join("\n\n");
    });
  const apache = read("../../LICENSE");
  return `${parts.join(`\n\n${"-".repeat(72)}\n\n`)}\n\n${"=".repeat(72)}\n\n${apache}`;
}

const { outputFiles, metafile } = await build({
  absWorkingDir: here,
  tsconfigRaw: {}, // its paths would lead to CommonJS
  // @culvert/web is the tree's. Its peers are this page's, also if ../../web has some of its own.
  alias: {
    "@culvert/web": join(here, "../../web/src/index.ts"),
    "@bufbuild/protobuf": "@bufbuild/protobuf",
    "@connectrpc/connect": "@connectrpc/connect",
  },
  entryPoints: ["src/main.ts"],
  bundle: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  minify: true,
  legalComments: "none", // licenses.txt has them all
  metafile: true,
  write: false,
  banner: { js: `// Built from demo/web by build.mjs; third-party notices: licenses.txt.\n// sources ${sumSources()}` },
});

const page = {
  "page.js": outputFiles[0].text,
  "licenses.txt": collectNotices(Object.keys(metafile.inputs)),
  "index.html": read("src/index.html"),
  "page.css": read("src/page.css"),
  "icon.svg": read("src/icon.svg"),
};
for (const [name, text] of Object.entries(page)) {
  const path = join("..", "page", name);
  if (!process.argv.includes("--check")) {
    writeFileSync(join(here, path), text);
  } else if (read(path) !== text) {
    console.error(`demo/page/${name} isn't what demo/web builds: run npm run build in demo/web`);
    process.exitCode = 1;
  }
}
