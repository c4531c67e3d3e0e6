// Starts the servers that tests talk to: e2e/backend, a gRPC server that also takes h2ts
// without culvert, and culvert before it, also with an Authenticator (internal/guard/guarded).

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { startBoxes } from "./boxes.js";

const bin = fileURLToPath(new URL("../../bin/", import.meta.url));
const program = (name, variable) => process.env[variable] ?? join(bin, name);

const running = new Set();
process.on("exit", () => {
  for (const child of running) {
    child.kill();
  }
});
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => process.exit(1));
}

/** Resolves to the servers' base URLs and a function that ends them. */
export async function startServers() {
  const dir = mkdtempSync(join(tmpdir(), "culvert-web-"));
  const stops = [];
  const start = (...command) => {
    const { line, stop } = startProgram(...command);
    stops.push(stop);
    return line;
  };
  stops.push(() => rmSync(dir, { recursive: true }));
  const stop = async () => {
    for (const end of stops.splice(0).reverse()) {
      await end();
    }
  };
  try {
    const backend = start(
      program("backend", "CULVERT_BACKEND"),
      ["-listen", "127.0.0.1:0", "-h2ts", "127.0.0.1:0", "-control", join(dir, "control")],
      process.env,
    );
    const address = await backend(/^listening (\S+)/);
    const plain = await backend(/^h2ts (\S+)/);
    const startCulvert = (...flags) =>
      start(
        program("culvert", "CULVERT_BIN"),
        [
          "serve",
          "--backend",
          address,
          ...flags,
          "--listen",
          "127.0.0.1:0",
          "--health-listen",
          "off",
          "--admin",
          "off",
          "--log-format",
          "json",
        ],
        // Nothing else configures it.
        Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("CULVERT_"))),
      );
    const culverts = [
      startCulvert("--allow-origin", "http://127.0.0.1:*"),
      startCulvert("--allow-origin", "http://127.0.0.1:*", "--doctor"),
      startCulvert("--allow-origin", "https://app.example.com", "--doctor"),
    ];
    const [culvert, doctor, closed] = await Promise.all(
      culverts.map(async (line) => `http://${await line(/"msg":"listening".*"address":"([^"]+)"/)}`),
    );
    const guarded = await start(program("guarded", "CULVERT_GUARDED"), ["-backend", address], process.env)(/^listening (\S+)/);
    const boxes = await startBoxes(doctor);
    stops.push(boxes.stop);
    const beside = await relayTo(plain);
    stops.push(beside.stop);
    return {
      servers: { culvert, doctor, closed, plain: `http://${plain}`, guarded: `http://${guarded}`, beside: beside.url, ...boxes.urls },
      stop,
    };
  } catch (e) {
    await stop();
    throw e;
  }
}

/** Relays from another IP address to a server: Firefox opens one WebSocket of an address at a time, whatever the port. */
async function relayTo(address) {
  const [host, port] = address.split(":");
  const sockets = new Set();
  const server = createServer((socket) => {
    const to = connect(port, host);
    for (const [one, other] of [
      [socket, to],
      [to, socket],
    ]) {
      sockets.add(one);
      one.on("error", () => {}); // close follows
      one.on("close", () => {
        sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.2", resolve));
  const stop = () => {
    server.close();
    for (const socket of sockets) {
      socket.destroy();
    }
  };
  return { url: `http://127.0.0.2:${server.address().port}`, stop };
}

/** Starts a program. line(pattern) waits for a line of output and resolves to its first group. */
function startProgram(path, args, env) {
  const child = spawn(path, args, { stdio: ["ignore", "pipe", "pipe"], env });
  running.add(child);
  const lines = [];
  const waiting = new Set();
  const look = () => {
    for (const w of waiting) {
      w();
    }
  };
  let ended;
  const end = new Promise((resolve) => {
    child.on("error", (e) => {
      ended = `${path}: ${e.message}: run make web`;
      resolve();
      look();
    });
    child.on("close", (code, signal) => {
      running.delete(child);
      ended ??= `${path} ended (${signal ?? code}):\n${lines.join("\n")}`;
      resolve();
      look();
    });
  });
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on("line", (line) => {
      lines.push(line);
      look();
    });
  }
  const stop = async () => {
    child.kill();
    await end;
  };
  const line = (pattern) =>
    new Promise((resolve, reject) => {
      const check = () => {
        const found = lines.map((l) => l.match(pattern)).find((m) => m);
        if (found || ended) {
          waiting.delete(check);
          found ? resolve(found[1]) : reject(new Error(ended));
        }
      };
      waiting.add(check);
      check();
    });
  return { line, stop };
}
