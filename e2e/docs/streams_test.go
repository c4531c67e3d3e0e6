package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// boundedPage opens BOUND streams of one host, then one more, and calls on another
// host meanwhile: had the one more been let through, it would have come first.
const boundedPage = `
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { Demo } from "./gen/demo_pb.js";

const elsewhere = createClient(Demo, createGrpcWebTransport({ baseUrl: "http://127.0.0.1:8080" }));
const demo = createClient(Demo, createGrpcWebTransport({ baseUrl: "ADDRESS" }));
const connect = createClient(Demo, createConnectTransport({ baseUrl: "ADDRESS" }));

function overFetch(client = demo) {
  const end = new AbortController();
  const replies = client.countdown({ from: 10, intervalMs: 60_000 }, { signal: end.signal })[Symbol.asyncIterator]();
  return { first: replies.next(), end: () => end.abort() };
}

function overEvents() {
  const source = new EventSource('ADDRESS/events?message={"from":10,"intervalMs":60000}');
  const first = new Promise((resolve, reject) => Object.assign(source, { onmessage: resolve, onerror: () => reject("failed") }));
  return { first, end: () => source.close() };
}

const kinds = [() => overFetch(connect), overEvents, overFetch];
function overEach() {
  kinds.push(kinds.shift());
  return kinds[0]();
}

function overWebSocket() {
  const socket = new WebSocket("ADDRESS/culvert.demo.v1.Demo/Countdown".replace("http", "ws"), "grpc-websockets");
  const first = new Promise((resolve, reject) => Object.assign(socket, { onmessage: resolve, onerror: () => reject("failed") }));
  socket.onopen = () => {
    socket.send(new TextEncoder().encode("content-type: application/grpc-web+proto\r\n"));
    socket.send(new Uint8Array([0, 0, 0, 0, 0, 6, 8, 10, 16, 0xe0, 0xd4, 3])); // from 10, every 60,000 ms
  };
  return { first, end: () => socket.close() };
}

const streams = [];
for (let n = 0; n < BOUND; n++) await streams[streams.push(OPEN()) - 1].first;
console.log(streams.length, "streams began");
const last = OPEN();
let now = "waits";
const seen = last.first.then(() => { now = "began"; }, () => { now = "failed"; });
for (let n = 0; n < 20; n++) await elsewhere.echo({ text: "hello" });
console.log("one more", now);
streams[0].end();
await seen;
console.log("when another had ended it", now);
for (const s of [...streams, last]) s.end();
`

// TestBrowsersBoundStreams measures what docs/clients/README.md says of how many
// streams a page of Chromium has of one host.
func TestBrowsersBoundStreams(t *testing.T) {
	startDemoBackend(t)
	startCulvert(t, "--config", writeFile(t, "proxy.yaml", fmt.Sprintf(`
allow_origins: [http://localhost:5173]
tls: {cert: %s, key: %s}
listen:
  - {name: plain, address: ":8080", tls: {enabled: false}}
  - {name: secure, address: ":443"}
routes:
  - {name: events, backend: default, message: {path: /events, method: culvert.demo.v1.Demo/Countdown, framing: sse}}
  - {name: calls, backend: default}
`, filepath.Join(worldDir, "cert.pem"), filepath.Join(worldDir, "key.pem"))))
	runner, err := filepath.Abs("browser.mjs")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, address, open string
		bound               int
		more, then          string
	}{
		{"gRPC-Web over HTTP/1.1", "http://localhost:8080", "overFetch", 6, "waits", "began"},
		{"gRPC-Web, Connect and EventSource over HTTP/1.1", "http://localhost:8080", "overEach", 6, "waits", "began"},
		{"gRPC-Web over HTTP/2", "https://grpc.example.com", "overFetch", 100, "waits", "began"}, // limits.calls_per_connection
		{"WebSockets", "http://localhost:8080", "overWebSocket", 255, "failed", "failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			script := strings.NewReplacer("ADDRESS", c.address, "OPEN", c.open, "BOUND", fmt.Sprint(c.bound)).Replace(boundedPage)
			file := filepath.Join(projectOf(t, script), "page.mjs")
			if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
			text, err := output(t, filepath.Dir(file), "node", runner, "--ignore-certificate-errors", file)
			want := []string{fmt.Sprint(c.bound, " streams began"), "one more " + c.more, "when another had ended it " + c.then}
			for _, line := range want {
				if err != nil || !strings.Contains(text, line) {
					t.Fatalf("%v, without %q:\n%s", err, line, text)
				}
			}
		})
	}
}
