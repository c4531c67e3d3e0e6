package docs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "google.golang.org/genproto/googleapis/rpc/errdetails" // so that details can be printed
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
)

// evidence is every line that the programs wrote while each symptom of
// docs/guides/troubleshooting.md was provoked, steadied.
var evidence struct {
	once  sync.Once
	lines []string
}

// A witness notes what it saw.
type witness struct{ *testing.T }

// saw notes lines as evidence.
func (w witness) saw(text string) {
	for l := range strings.Lines(text) {
		evidence.lines = append(evidence.lines, steady(l))
	}
	if dump := os.Getenv("DOCS_EVIDENCE"); dump != "" { // for whoever writes the page
		f, err := os.OpenFile(dump, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			w.Fatal(err)
		}
		_, err = fmt.Fprintf(f, "%s\n", strings.TrimSuffix(text, "\n"))
		if err = errors.Join(err, f.Close()); err != nil {
			w.Fatal(err)
		}
	}
}

// wantEvidence holds each line of a block to what was really written. "…" stands
// for any part of a line that doesn't matter.
func wantEvidence(t *testing.T, b block) {
	evidence.once.Do(func() { gather(t) })
	for l := range strings.Lines(b.text) {
		if strings.TrimSpace(l) != "" && !witnessed(strings.Split(steady(l), "…")) {
			t.Errorf("nobody has written\n  %s", l)
		}
	}
}

// TestTextsInTablesWereSeen holds the texts in the first column of the tables of
// docs/guides/troubleshooting.md to what was really written.
func TestTextsInTablesWereSeen(t *testing.T) {
	for _, p := range readPages(t) {
		if !strings.HasPrefix(p.path, "docs/guides/troubleshooting") {
			continue
		}
		evidence.once.Do(func() { gather(t) })
		for _, l := range p.prose {
			cells := strings.Split(l.text, "|")
			if len(cells) < 3 || !strings.HasPrefix(l.text, "|") {
				continue
			}
			for _, m := range codeSpan.FindAllStringSubmatch(cells[1], -1) {
				if m[1] != "cause" && !witnessed([]string{steady(m[1])}) {
					t.Errorf("%s:%d: nobody has written %s", p.path, l.number, m[1])
				}
			}
		}
	}
}

// witnessed reports whether one line of evidence has the parts, in this order.
func witnessed(parts []string) bool {
	for _, l := range evidence.lines {
		rest, all := l, true
		for _, p := range parts {
			_, after, found := strings.Cut(rest, strings.TrimSpace(p))
			rest, all = after, all && found
		}
		if all {
			return true
		}
	}
	return false
}

// gather provokes each symptom, with a path of its own.
func gather(t *testing.T) {
	for _, s := range symptoms {
		t.Run(s.name, func(t *testing.T) { s.provoke(witness{t}) })
	}
}

var symptoms = []struct {
	name    string
	provoke func(w witness)
}{
	{"a call that goes well", goesWell},
	{"a page of another origin", foreignPage},
	{"a certificate and a key of another", badCertificate},
	{"a storage of another user", storageOfAnother},
	{"a backend that is away", backendAway},
	{"a backend that speaks TLS or doesn't", backendTLS},
	{"a backend that is no gRPC server", backendIsAPage},
	{"a method that isn't exposed", hiddenMethod},
	{"limits", limits},
	{"a drain under a call", drained},
	{"requests that are no calls", noCalls},
	{"a request to the web server", webRequest},
	{"a box that speaks only HTTP/1.1", http1Box},
	{"a proxy that opens TLS", tlsOpeningProxy},
	{"a box that refuses", refusingBox},
	{"a certificate nobody trusts", untrusted},
	{"starts that fail", failedStarts},
	{"pods that culvert-kube refuses or warns of", kubernetesMistakes},
}

// with runs culvert before the demo's service, lets use call it, and takes its
// log as evidence.
func (w witness) with(args []string, use func()) {
	p := startCulvert(w, args...)
	use()
	w.end(p)
}

// end ends culvert and takes what it wrote.
func (w witness) end(p *process) {
	p.end(w)
	// Nobody has to act on what only says that culvert itself ends.
	if strings.Contains(p.output(), "the client connection is closing") {
		w.Errorf("culvert complains of its own end:\n%s", p.output())
	}
	w.saw(p.output())
}

// page runs scripts in Chromium and takes what they log.
func (w witness) page(scripts ...string) {
	runner, err := filepath.Abs("browser.mjs")
	if err != nil {
		w.Fatal(err)
	}
	argv := []string{"node", runner}
	for _, script := range scripts {
		file := filepath.Join(projectOf(w, script), "page.mjs")
		if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
			w.Fatal(err)
		}
		argv = append(argv, file)
	}
	text, err := output(w, w.TempDir(), argv...)
	if err != nil {
		w.Fatalf("%v\n%s", err, text)
	}
	w.saw(text)
}

// node runs a script in Node and takes what it logs.
func (w witness) node(script string) {
	dir := projectOf(w, script)
	file := filepath.Join(dir, "script.mjs")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		w.Fatal(err)
	}
	text, err := output(w, dir, "node", file)
	if err != nil {
		w.Fatalf("%v\n%s", err, text)
	}
	w.saw(text)
}

// native makes one native call and takes its error.
func (w witness) native(address string, options ...grpc.DialOption) {
	w.invoke(w.Context(), address, "/grpc.health.v1.Health/Check", &healthpb.HealthCheckRequest{}, options...)
}

func (w witness) invoke(ctx context.Context, address, method string, request *healthpb.HealthCheckRequest, options ...grpc.DialOption) {
	w.Helper()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	options = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy()}, options...)
	cc, err := grpc.NewClient(address, options...)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = cc.Close() }()
	err = cc.Invoke(ctx, method, request, &healthpb.HealthCheckResponse{})
	if err == nil {
		w.Errorf("%s at %s went well", method, address)
		return
	}
	w.saw(err.Error())
	for _, d := range status.Convert(err).Details() {
		w.saw(fmt.Sprint(d))
	}
	for _, d := range status.Convert(err).Proto().GetDetails() {
		text, err := protojson.Marshal(d)
		if err != nil {
			w.Fatal(err)
		}
		var indented bytes.Buffer // always with the same blanks
		if err := json.Indent(&indented, text, "", "  "); err != nil {
			w.Fatal(err)
		}
		w.saw(indented.String())
	}
}

// get makes a plain HTTP request and takes the answer.
func (w witness) get(method, url string, header ...string) {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), method, url, http.NoBody)
	if err != nil {
		w.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	res, err := transport.RoundTrip(r)
	if err != nil {
		w.saw(err.Error())
		return
	}
	text, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		w.Fatal(err)
	}
	w.saw(res.Proto + " " + res.Status)
	w.saw(string(text))
}

const connectEcho = `
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { Demo } from "./gen/demo_pb.js";
const demo = createClient(Demo, createGrpcWebTransport({ baseUrl: "ADDRESS" }));
await demo.echo({ text: "x".repeat(SIZE) }, OPTIONS).then(() => console.log("it went well"), (e) => console.log(String(e)));
`

func connectScript(address, size, options string) string {
	return strings.NewReplacer("ADDRESS", address, "SIZE", size, "OPTIONS", options).Replace(connectEcho)
}

const improbableSum = `
import { grpc } from "@improbable-eng/grpc-web";
import { SumRequest } from "./gen/demo_pb.js";
import { Demo } from "./gen/demo_pb_service.js";
const call = grpc.client(Demo.Sum, { host: "ADDRESS", transport: grpc.WebsocketTransport() });
const end = new Promise((resolve) => call.onEnd((code, message) => resolve(console.log("onEnd " + code + " " + message))));
call.start();
call.send(new SumRequest().setNumber(1));
call.finishSend();
await end;
`

const niceSum = `
import { createChannel, createClient, WebsocketTransport } from "nice-grpc-web";
import { DemoDefinition } from "./gen/demo";
const channel = createChannel("ADDRESS", WebsocketTransport());
await createClient(DemoDefinition, channel).sum((async function* () { yield { number: 20 }; })()).catch((e) => console.log(String(e)));
`

func goesWell(w witness) {
	startDemoBackend(w)
	w.with(nil, func() {
		if err := callEcho(w, "localhost:8080"); err != nil {
			w.Error(err)
		}
	})
}

func foreignPage(w witness) {
	startDemoBackend(w)
	w.with(nil, func() {
		w.page(connectScript("http://localhost:8080", "1", "{}"),
			strings.ReplaceAll(improbableSum, "ADDRESS", "http://localhost:8080"),
			strings.ReplaceAll(niceSum, "ADDRESS", "http://localhost:8080"))
	})
}

func backendAway(w witness) {
	p := startCulvert(w, "--allow-origin", "http://localhost:5173")
	w.native("localhost:8080")
	w.page(connectScript("http://localhost:8080", "1", "{}"))
	p.logged(w, "UNAVAILABLE")
	w.end(p)
}

func backendTLS(w witness) {
	startDemoBackend(w)
	w.with([]string{"--backend-tls"}, func() { w.native("localhost:8080") })
	startNginx(w, "server { listen 443 ssl http2; server_name grpc.example.com; ssl_certificate /etc/nginx/tls/fullchain.pem; ssl_certificate_key /etc/nginx/tls/privkey.pem; location / { grpc_pass grpc://127.0.0.1:9000; } }\n")
	w.with([]string{"--backend", "grpc.example.com:443"}, func() { w.native("localhost:8080") })
	w.with([]string{"--backend", "grpc.example.com:443", "--backend-tls"}, func() { w.native("localhost:8080") })
	w.with([]string{"--backend", "localhost:443", "--backend-ca", filepath.Join(worldDir, "ca.pem")}, func() { w.native("localhost:8080") })
}

func backendIsAPage(w witness) {
	address := servePage(w, http.StatusOK)
	w.with([]string{"--backend", address}, func() { w.native("localhost:8080") })
}

// servePage serves an HTML page over HTTP/1.1 and HTTP/2 and returns where.
func servePage(t testing.TB, code int) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Protocols: new(http.Protocols), ReadHeaderTimeout: 10 * time.Second}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	server.Handler = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		rw.WriteHeader(code)
		_, _ = io.WriteString(rw, "<h1>Access to this page is blocked</h1>") // the client may be gone
	})
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ln) }) // until it is closed
	t.Cleanup(func() {
		_ = server.Close() // clients may be connected
		serving.Wait()
	})
	return ln.Addr().String()
}

func hiddenMethod(w witness) {
	startDemoBackend(w)
	w.with([]string{"--deny-method", "grpc.health.v1.Health/*"}, func() { w.native("localhost:8080") })
	w.with([]string{"--allow-method", "culvert.demo.v1.Demo/*"}, func() { w.native("localhost:8080") })
	w.with(nil, func() {
		w.invoke(w.Context(), "localhost:8080", "/grpc.channelz.v1.Channelz/GetServers", &healthpb.HealthCheckRequest{})
		w.invoke(w.Context(), "localhost:8080", "/shop.v1.Orders/List", &healthpb.HealthCheckRequest{})
	})
}

func limits(w witness) {
	startDemoBackend(w)
	config := writeFile(w, "proxy.yaml", "allow_origins: [http://localhost:5173]\nlimits: {message_bytes: 64KiB, header_bytes: 4KiB, idle_timeout: 1s}\n")
	w.with([]string{"--config", config}, func() {
		w.page(connectScript("http://localhost:8080", "100_000", "{}"),
			connectScript("http://localhost:8080", "1", `{ headers: { "x-demo-a": "x".repeat(5_000) } }`))
		w.watch(w.Context(), "localhost:8080")
	})
	config = writeFile(w, "few.yaml", "limits: {calls: 1, max_age: 1s}\n")
	w.with([]string{"--config", config}, func() {
		done := make(chan struct{})
		began := make(chan struct{})
		go func() { // received below
			defer close(done)
			w.watchFrom(w.Context(), "localhost:8080", began)
		}()
		<-began
		w.native("localhost:8080")
		<-done
	})
	w.with(nil, func() {
		ctx, cancel := context.WithCancel(w.Context())
		defer cancel()
		began, done := make(chan struct{}), make(chan struct{})
		go func() { // received below
			defer close(done)
			w.watchFrom(ctx, "localhost:8080", began)
		}()
		<-began
		cancel()
		<-done
		w.node(connectScript("http://localhost:8080", "1", `{ timeoutMs: 1 }`))
	})
}

// watch begins a call that goes on until something ends it, and takes its error.
func (w witness) watch(ctx context.Context, address string) {
	w.watchFrom(ctx, address, make(chan struct{}))
}

// watchFrom closes began once the call runs.
func (w witness) watchFrom(ctx context.Context, address string, began chan<- struct{}) {
	cc, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		w.Error(err)
		close(began)
		return
	}
	defer func() { _ = cc.Close() }()
	stream, err := healthpb.NewHealthClient(cc).Watch(ctx, &healthpb.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	close(began)
	if err == nil {
		_, err = stream.Recv()
	}
	w.saw(fmt.Sprint(err))
}

func drained(w witness) {
	startDemoBackend(w)
	p := startCulvert(w, "--drain-timeout", "100ms")
	began, done := make(chan struct{}), make(chan struct{})
	go func() { // received below
		defer close(done)
		w.watchFrom(w.Context(), "localhost:8080", began)
	}()
	<-began
	p.signal(w, syscall.SIGHUP)
	p.logged(w, "nothing", "signal")
	p.signal(w, syscall.SIGTERM)
	<-done
	<-p.exited
	w.saw(p.output())
}

func noCalls(w witness) {
	startDemoBackend(w)
	w.with([]string{"--listen", "127.0.0.1:8080"}, func() {
		w.get("GET", "http://localhost:8080/")
		w.get("GET", "http://localhost:8080/culvert.demo.v1.Demo/Sum")
		w.get("GET", "http://localhost:8080/culvert.demo.v1.Demo/Sum", "Sec-WebSocket-Protocol", "grpc-websockets", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		w.get("GET", "http://localhost:8080/culvert.demo.v1.Demo/Sum", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Protocol", "chat", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		w.get("POST", "http://localhost:8080/culvert.demo.v1.Demo/Echo", "Content-Type", "application/json")
		w.get("POST", "http://localhost:8080/culvert.demo.v1.Demo/Echo", "Content-Type", "application/x-www-form-urlencoded")
		w.get("POST", "http://localhost:8080/culvert.demo.v1.Demo/Echo", "Content-Type", "application/grpc")
		w.get("POST", "http://localhost:8080/", "Content-Type", "application/grpc-web")
		w.get("POST", "http://localhost:8080/api/pkg.Service/Method", "Content-Type", "application/grpc-web")
		w.get("POST", "http://localhost:8080/culvert.demo.v1.Demo/Echo", "Host", "grpc.example.com", "Content-Type", "application/grpc-web")
		w.get("POST", "http://localhost:8080/culvert.demo.v1.Demo/Echo", "Origin", "https://evil.example", "Content-Type", "application/grpc-web")
		w.get("POST", "http://localhost:8080/culvert.demo.v1.Demo/Echo", "Origin", "", "Content-Type", "application/grpc-web")
		w.get("POST", "http://localhost:8080/culvert.demo.v1.Demo/Echo", "Sec-Fetch-Site", "cross-site", "Content-Type", "application/grpc-web")
		w.get("POST", "http://localhost:8080/culvert.demo.v1.Demo/Echo", "Origin", "http://localhost:8080", "Sec-Fetch-Site", "cross-site", "Content-Type", "application/grpc-web")
	})
	w.with([]string{"--listen", ":8080", "--host", "grpc.example.com"}, func() {
		w.get("GET", "http://localhost:8080/culvert.demo.v1.Demo/Echo?connect=v1&encoding=json&message=%7B%7D", "Host", "evil.example")
	})
	file := filepath.Join(w.TempDir(), "proxy.yaml")
	if err := os.WriteFile(file, []byte("metadata: {forward_cookies: true}\n"), 0o600); err != nil {
		w.Fatal(err)
	}
	w.with([]string{"--listen", "127.0.0.1:8080", "--config", file}, func() {
		w.get("POST", "http://localhost:8080/culvert.demo.v1.Demo/Echo", "Cookie", "session=1", "Content-Type", "application/grpc-web")
	})
}

func webRequest(w witness) {
	ln, err := new(net.ListenConfig).Listen(w.Context(), "tcp", "127.0.0.1:3000")
	if err != nil {
		w.Fatal(err)
	}
	web := &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.NotFoundHandler()}}
	web.Start()
	defer web.Close()
	w.with([]string{"--fallback", "http://localhost:3000"}, func() { w.get("GET", "http://localhost:8080/cart?session=1") })
}

// http1Box puts nginx, as it is without the settings of docs/guides/reverse-proxies.md,
// before culvert: it speaks HTTP/1.1 to it and drops the Upgrade header.
func http1Box(w witness) {
	startDemoBackend(w)
	startNginx(w, "server { listen 8081; location / { proxy_pass http://127.0.0.1:8080; } }\nserver { listen 8082 http2; location / { proxy_pass http://127.0.0.1:8080; } }\nserver { listen 443 ssl; ssl_certificate /etc/nginx/tls/fullchain.pem; ssl_certificate_key /etc/nginx/tls/privkey.pem; location / { proxy_pass http://127.0.0.1:8080; } }\n")
	w.with([]string{"--allow-origin", "http://localhost:5173"}, func() {
		w.native("localhost:8081")
		w.native("localhost:8082")
		w.native("grpc.example.com:443", grpc.WithTransportCredentials(credentials.NewTLS(roots())))
		w.page(strings.ReplaceAll(improbableSum, "ADDRESS", "http://localhost:8081"),
			strings.ReplaceAll(niceSum, "ADDRESS", "http://localhost:8081"))
		w.node(strings.ReplaceAll(grpcJS, "ADDRESS", "localhost:8081"))
	})
}

// tlsOpeningProxy is Squid, whose TLS offers no HTTP/2.
func tlsOpeningProxy(w witness) {
	startFrontedPath(w.T)
	startSquid(w, "bump", "")
	if err := callNative(w.Context(), httpTransport(w, false, corporateProxy)); err != nil {
		w.saw(err.Error())
	}
}

const grpcJS = `
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
const { Demo } = grpc.loadPackageDefinition(loadSync("demo.proto")).culvert.demo.v1;
const demo = new Demo("ADDRESS", grpc.credentials.createInsecure());
await new Promise((end) => demo.echo({ text: "hello" }, (error) => end(console.log(String(error)))));
`

func refusingBox(w witness) {
	address := servePage(w, http.StatusForbidden)
	w.native(address)
	w.page(connectScript("http://"+address, "1", "{}"))
	w.node(connectScript("http://"+address, "1", "{}"))
}

func untrusted(w witness) {
	startDemoBackend(w)
	startNginx(w, frontConfig(w))
	w.native("grpc.example.com:443", grpc.WithTransportCredentials(credentials.NewTLS(nil)))
	w.node(connectScript("https://grpc.example.com", "1", "{}") + "\nconsole.log((await fetch('https://grpc.example.com').catch((e) => e)).cause.code)")
	w.page(connectScript("https://grpc.example.com", "1", "{}"))
	text, _ := output(w, w.TempDir(), "curl", "-sS", "https://grpc.example.com/") // it fails, and says how
	w.saw(text)
}

func failedStarts(w witness) {
	run := func(argv ...string) {
		text, err := output(w, w.TempDir(), append([]string{culvertProgram}, argv...)...)
		if err == nil {
			w.Errorf("culvert %q went well", argv)
		}
		w.saw(text)
	}
	run("serve")
	run("serve", "--backend", "http://localhost:9000")
	run("serve", "--backend", "localhost:8080")
	ln, err := net.Listen("tcp", ":8080")
	if err != nil {
		w.Fatal(err)
	}
	run("serve", "--backend", demoBackend)
	_ = ln.Close() // it was only in the way
	run("validate", writeFile(w, "proxy.yaml", "limts:\n  calls: 5\n"))

	first := startCulvert(w)
	second := startCulvert(w, "--listen", "127.0.0.1:8088")
	w.end(second)
	w.end(first)
}
