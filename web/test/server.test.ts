// What other tests rely on: the plain server's rules.

import { box, control, deepEqual, env, equal, ok, rejects, test, testServers } from "./harness.js";

const preface = new Uint8Array([...new TextEncoder().encode("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 0, 0, 0, 4, 0, 0, 0, 0, 0]);
const SETTINGS = 4;

/** A WebSocket that tells what comes. */
function dial(baseUrl: string) {
  const socket = new env.WebSocket(baseUrl.replace("http", "ws"), "h2ts");
  socket.binaryType = "arraybuffer";
  const opened = new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error("not opened"));
  });
  const first = new Promise<Uint8Array>((resolve) => {
    socket.onmessage = (e) => resolve(new Uint8Array(e.data));
  });
  const closed = new Promise<CloseEvent>((resolve) => {
    socket.onclose = resolve;
  });
  return { socket, opened, first, closed };
}

testServers("a server sends SETTINGS", async (baseUrl) => {
  const { socket, opened, first } = dial(baseUrl);
  await opened;
  equal(socket.protocol, "h2ts");
  socket.send(preface);
  equal((await first)[3], SETTINGS);
  socket.close();
});

test("SETTINGS can be held back", async () => {
  const { baseUrl, release, wait } = await box({ hold: true, maxStreams: 3 });
  const { socket, opened, first } = dial(baseUrl);
  await opened;
  socket.send(preface);
  deepEqual(await wait(1), { live: 1, opened: 1 });
  let held = true;
  const came = first.then((bytes) => {
    equal(held, false, "held");
    return bytes;
  });
  await control("/tunnels/wait");
  held = false;
  await release();
  const bytes = await came;
  const view = new DataView(bytes.buffer);
  equal(bytes[3], SETTINGS);
  const settings = Array.from({ length: (view.getUint32(0) >> 8) / 6 }, (_, i) => [view.getUint16(9 + 6 * i), view.getUint32(11 + 6 * i)]);
  deepEqual(
    settings.find(([id]) => id === 3),
    [3, 3],
  );
  socket.close();
  deepEqual(await wait(0), { live: 0, opened: 1 });
});

test("connections can be cut and closed", async () => {
  const { baseUrl, cut, close, wait } = await box();
  const one = dial(baseUrl);
  await one.opened;
  await wait(1);
  await cut();
  equal((await one.closed).code, 1006);
  const two = dial(baseUrl);
  await two.opened;
  await wait(1);
  await close(1012, "service restart");
  const { code, reason } = await two.closed;
  deepEqual([code, reason], [1012, "service restart"]);
});

test("upgrades can be refused, and left without an answer", async () => {
  const refusing = await box({ status: 403 });
  await rejects(dial(refusing.baseUrl).opened);
  const silent = await box({ silent: true });
  const { socket, opened } = dial(silent.baseUrl);
  equal(await Promise.race([opened, control("/tunnels/wait").then(() => "nothing")]), "nothing");
  opened.catch(() => {});
  socket.close();
  ok((await silent.wait()).opened === 0);
});
