// Packs what a release publishes, from dist, and checks it as an installed package: its size in a page, its public
// names, its files, its types, and that Node loads it.
//
//   node package.js                       checks
//   node package.js --update              writes the public names to public.txt first
//   node package.js --release VERSION DIR only packs that version, to DIR

import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { publint } from "publint";
import { formatMessage } from "publint/utils";

const root = fileURLToPath(new URL(".", import.meta.url));
const read = (...path) => readFileSync(join(root, ...path), "utf8").replaceAll("\r\n", "\n");
const manifest = JSON.parse(read("package.json"));
const [flag, version, folder] = process.argv.slice(2);

// The largest sizes in bytes, minified and compressed by gzip -9: of what a page loads at once, from a bundler that splits
// code. protobuf-es isn't counted: a page has it for its messages in any case. What renews tokens is a file of its own, with
// a limit of its own: a page loads it with its first stream in a WebSocket, and never if the option token isn't set.
const lazy = { name: "session", what: "renewal of tokens, loaded later", most: 1536 };
const sizes = [
  { what: "own code", most: 9216, code: 'export * from "./dist/index.js";', external: ["@connectrpc/*", "@bufbuild/*"] },
  {
    what: "with connect-es and createClient",
    most: 13312,
    code: 'export { createCulvertTransport } from "./dist/index.js"; export { createClient } from "@connectrpc/connect";',
    external: ["@bufbuild/*"],
  },
  {
    what: "with connect-web as fallback",
    most: 15360,
    code: `export { createCulvertTransport } from "./dist/index.js"; export { createClient } from "@connectrpc/connect";
      export { createGrpcWebTransport } from "@connectrpc/connect-web";`,
    external: ["@bufbuild/*"],
  },
  { what: "diagnose", most: 13568, code: 'export * from "./dist/diagnose.js";', external: [] },
];

async function checkSizes() {
  for (const { what, most, code, external } of sizes) {
    const { outputFiles } = await build({
      stdin: { contents: code, resolveDir: root },
      bundle: true,
      minify: true,
      format: "esm",
      target: "es2022",
      legalComments: "none",
      external,
      splitting: true,
      outdir: root,
      write: false,
    });
    const size = (files) => files.reduce((sum, { contents }) => sum + gzipSync(contents, { level: 9 }).length, 0);
    const later = outputFiles.filter(({ path }) => basename(path).startsWith(`${lazy.name}-`));
    // All other files count, whether they are loaded at once or not: nothing hides in one more.
    checkSize(what, size(outputFiles.filter((file) => !later.includes(file))), most);
    for (const file of later) {
      checkSize(`${what}: ${lazy.what}`, size([file]), lazy.most);
    }
  }
}

function checkSize(what, size, most) {
  console.log(`  ${what}: ${size} bytes of at most ${most}`);
  if (size > most) {
    fail(`${what} is ${size - most} bytes too large`);
  }
}

/** Each exported name with its type, and each member of an exported interface, sorted. */
function publicNames() {
  // TypeScript 7 has no interface for programs yet; that of attw has one.
  const ts = createRequire(createRequire(import.meta.url).resolve("@arethetypeswrong/core"))("typescript");
  const entries = Object.entries(manifest.exports).map(([entry, { types }]) => [entry, join(root, types)]);
  const program = ts.createProgram(
    entries.map(([, file]) => file),
    { strict: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext, lib: ["lib.es2022.d.ts", "lib.dom.d.ts"], types: [] },
  );
  const checker = program.getTypeChecker();
  const flags = ts.TypeFormatFlags.NoTruncation | ts.TypeFormatFlags.UseAliasDefinedOutsideCurrentScope;
  const text = (type) => checker.typeToString(type, undefined, flags);
  const names = [];
  for (const [entry, file] of entries) {
    const module = checker.getSymbolAtLocation(program.getSourceFile(file));
    if (!module) {
      throw new Error(`${file} exports nothing: npm run build`);
    }
    for (const exported of checker.getExportsOfModule(module)) {
      const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
      const name = `${entry} ${exported.name}`;
      if (symbol.flags & ts.SymbolFlags.Value) {
        names.push(`${name}: ${text(checker.getTypeOfSymbol(symbol))}`);
      }
      if (symbol.flags & ts.SymbolFlags.TypeAlias) {
        names.push(
          `${name} = ${checker.typeToString(checker.getDeclaredTypeOfSymbol(symbol), undefined, flags | ts.TypeFormatFlags.InTypeAlias)}`,
        );
      }
      if (symbol.flags & (ts.SymbolFlags.Interface | ts.SymbolFlags.Class)) {
        for (const member of checker.getPropertiesOfType(checker.getDeclaredTypeOfSymbol(symbol))) {
          // Names that a base outside this package has aren't its own.
          if (member.declarations?.some((d) => !d.getSourceFile().fileName.includes("/node_modules/"))) {
            const optional = member.flags & ts.SymbolFlags.Optional ? "?" : "";
            names.push(`${name}.${member.name}${optional}: ${text(checker.getTypeOfSymbol(member))}`);
          }
        }
      }
    }
  }
  return `${names.sort().join("\n")}\n`;
}

function checkNames() {
  const names = publicNames();
  if (flag === "--update") {
    writeFileSync(join(root, "public.txt"), names);
  }
  const golden = existsSync(join(root, "public.txt")) ? read("public.txt") : "";
  if (names !== golden) {
    const [was, is] = [golden.split("\n"), names.split("\n")];
    const lines = [...was.filter((l) => !is.includes(l)).map((l) => `- ${l}`), ...is.filter((l) => !was.includes(l)).map((l) => `+ ${l}`)];
    fail(`the public names differ from web/public.txt; if that is meant: npm run names\n${lines.join("\n")}`);
  }
}

/** Packs a version to a folder and returns the tarball's path. */
function pack(version, to) {
  const dir = mkdtempSync(join(tmpdir(), "culvert-web-"));
  try {
    for (const name of ["dist", "README.md", ".npmrc"]) {
      cpSync(join(root, name), join(dir, name), { recursive: true });
    }
    cpSync(join(root, "..", "LICENSE"), join(dir, "LICENSE"));
    // An installed package has no use for scripts and development tools.
    const { scripts: _, devDependencies: __, ...published } = manifest;
    writeFileSync(join(dir, "package.json"), `${JSON.stringify({ ...published, version }, null, 2)}\n`);
    mkdirSync(to, { recursive: true });
    const [packed] = JSON.parse(run("npm", ["pack", "--json", "--pack-destination", to], dir));
    return join(to, packed.filename);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

async function checkPackage() {
  const dir = mkdtempSync(join(tmpdir(), "culvert-web-"));
  try {
    const tarball = pack(manifest.version, dir);
    const content = readFileSync(tarball);
    const { messages, pkg } = await publint({
      pack: { tarball: content.buffer.slice(content.byteOffset, content.byteOffset + content.length) },
      strict: true,
    });
    for (const m of messages) {
      fail(`publint: ${formatMessage(m, pkg)}`);
    }
    run(join(root, "node_modules/.bin/attw"), [tarball, "--profile", "esm-only", "--no-emoji"], dir);
    useInstalled(dir, tarball);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Installs the tarball in a folder, and has TypeScript check and Node run a program that uses it. */
function useInstalled(dir, tarball) {
  writeFileSync(join(dir, "package.json"), '{ "type": "module" }');
  run("npm", ["install", "--offline", "--no-audit", "--no-fund", "--legacy-peer-deps", tarball], dir);
  const installed = join(dir, "node_modules/@culvert/web");
  const files = readdirSync(installed, { recursive: true, withFileTypes: true }).filter((f) => f.isFile());
  const stray = files
    .map((f) => join(f.parentPath, f.name).slice(installed.length + 1))
    .filter((f) => !/^(dist\/.*\.(js|d\.ts)|LICENSE|README\.md|package\.json)$/.test(f));
  if (stray.length > 0) {
    fail(`the package has files that nobody needs: ${stray}`);
  }
  for (const peer of Object.keys(manifest.peerDependencies)) {
    mkdirSync(join(dir, "node_modules", peer, ".."), { recursive: true });
    symlinkSync(join(root, "node_modules", peer), join(dir, "node_modules", peer));
  }
  writeFileSync(
    join(dir, "program.ts"),
    `import type { Transport } from "@connectrpc/connect";
import * as web from "@culvert/web";
import { diagnose } from "@culvert/web/diagnose";
import * as trace from "@culvert/web/trace";
const transport: Transport = web.createCulvertTransport({ baseUrl: "https://app.example.com" });
if (typeof transport.unary !== "function" || Object.keys(trace).length === 0 || typeof diagnose !== "function") throw new Error("the package isn't whole");
`,
  );
  const options = ["--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom,dom.asynciterable", "--types", ""];
  run(join(root, "node_modules/.bin/tsc"), ["--strict", ...options, "program.ts"], dir);
  run(process.execPath, ["program.js"], dir);
}

function run(program, args, cwd) {
  try {
    return execFileSync(program, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  } catch (e) {
    throw new Error(`${program} ${args.join(" ")}: ${e.message}\n${e.stdout}\n${e.stderr}`);
  }
}

function fail(what) {
  console.log(`package: ${what}`);
  process.exitCode = 1;
}

if (flag === "--release") {
  console.log(pack(version, folder));
} else {
  await checkSizes();
  checkNames();
  await checkPackage();
  console.log(`package: ${process.exitCode ? "failed" : "checked"}`);
}
