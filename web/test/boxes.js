// Boxes between a page and culvert, each of which breaks something: reverse proxies over HTTP/1.1.

import { createServer, request } from "node:http";

const page = "<!doctype html><title>Blocked by policy</title>";

/** What each box does to requests and to handshakes of WebSockets; by default it passes them on. */
const kinds = {
  passes: {},
  // Removes the header Upgrade.
  strips: { upgrade: (box, q, socket) => plain(box, q, socket) },
  // Answers handshakes, and carries nothing afterwards.
  dead: { upgrade: (box, q, socket) => tunnel(box, q, socket, () => {}) },
  // Carries the first bytes each way.
  dies: {
    upgrade: (box, q, socket) => {
      let packets = 0;
      tunnel(box, q, socket, (to, bytes) => packets++ < 2 && to.write(bytes));
    },
  },
  // Never answers a handshake.
  hangs: { upgrade: () => {} },
  // Ends WebSockets on which the service has sent nothing for three seconds.
  quiet: {
    upgrade: (box, q, socket) => {
      let timer;
      tunnel(box, q, socket, (to, bytes) => {
        to.write(bytes);
        if (to === socket) {
          clearTimeout(timer);
          timer = setTimeout(() => socket.destroy(), 3000);
        }
      });
      socket.on("close", () => clearTimeout(timer));
    },
  },
  // Holds the bodies of answers until their end.
  holds: {
    request: (box, q, r) =>
      forward(box, q, async (answer) => {
        const body = Buffer.concat(await answer.toArray());
        r.writeHead(answer.statusCode, answer.headers).end(body);
      }),
  },
  // Has a page of its own for gRPC's content types, and for handshakes.
  refuses: {
    request: (box, q, r) =>
      /^application\/(grpc|connect)/.test(q.headers["content-type"])
        ? r.writeHead(403, { "content-type": "text/html", via: "1.1 box" }).end(page)
        : forward(box, q, r),
    upgrade: (_, __, socket) => socket.end(`HTTP/1.1 403 Forbidden\r\ncontent-length: ${page.length}\r\n\r\n${page}`),
  },
  // Has a page of its own for everything.
  blocks: {
    request: (_, __, r) => r.writeHead(403, { "content-type": "text/html" }).end(page),
    upgrade: (_, __, socket) => socket.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"),
  },
};

const options = (box, q) => ({ ...box.to, method: q.method, path: q.url, headers: q.headers });

/** Passes a request on. */
function forward(box, q, to) {
  const out = request(options(box, q), (answer) => {
    if (typeof to === "function") {
      return to(answer);
    }
    to.writeHead(answer.statusCode, answer.headers);
    answer.pipe(to);
    answer.on("error", () => to.destroy());
  });
  out.on("error", () => q.destroy());
  q.pipe(out);
}

/** Passes a handshake on as a request without Upgrade. */
function plain(box, q, socket) {
  const { upgrade: _, connection: __, ...headers } = q.headers;
  const out = request({ ...options(box, q), headers: { ...headers, connection: "close" } }, async (answer) => {
    const body = Buffer.concat(await answer.toArray());
    socket.end(`HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
  });
  out.on("error", () => socket.destroy());
  out.end();
}

/** Passes a handshake on, and hands what comes after it to carry. */
function tunnel(box, q, socket, carry = (to, bytes) => to.write(bytes)) {
  const out = request(options(box, q));
  out.on("error", () => socket.destroy());
  out.on("upgrade", (answer, far, first) => {
    box.sockets.add(far);
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\n${Object.entries(answer.headers)
        .map(([k, v]) => `${k}: ${v}\r\n`)
        .join("")}\r\n`,
    );
    far.on("error", () => {});
    far.on("close", () => socket.destroy());
    socket.on("close", () => far.destroy());
    first.length && carry(socket, first);
    far.on("data", (bytes) => carry(socket, bytes));
    socket.on("data", (bytes) => carry(far, bytes));
  });
  out.end();
}

/** Starts a box of each kind before a server, and resolves to their base URLs and a function that ends them. */
export async function startBoxes(server) {
  const { hostname, port } = new URL(server);
  const urls = {};
  const stops = [];
  for (const [kind, { request = forward, upgrade = tunnel }] of Object.entries(kinds)) {
    const box = { to: { host: hostname, port }, sockets: new Set() };
    const listener = createServer((q, r) => {
      q.on("error", () => {});
      request(box, q, r);
    });
    listener.on("connection", (socket) => {
      box.sockets.add(socket);
      socket.on("error", () => {});
    });
    listener.on("upgrade", (q, socket) => upgrade(box, q, socket));
    await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
    urls[kind] = `http://127.0.0.1:${listener.address().port}`;
    stops.push(() => {
      listener.close();
      for (const socket of box.sockets) {
        socket.destroy();
      }
    });
  }
  urls.gone = await unused();
  return { urls, stop: () => stops.map((stop) => stop()) };
}

/** A base URL where nothing listens. */
async function unused() {
  const listener = createServer();
  await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const { port } = listener.address();
  await new Promise((resolve) => listener.close(resolve));
  return `http://127.0.0.1:${port}`;
}
