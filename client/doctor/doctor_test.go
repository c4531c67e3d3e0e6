package doctor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/parts/box"
)

func TestNothingInTheWay(t *testing.T) {
	inBubble(t, func(w *world) {
		w.doctor = true
		w.startEdge()
		wantVerdicts(w.t, w.run(w.direct()), Yes, "way-grpc")
	})
}

func TestEachBox(t *testing.T) {
	for name, c := range map[string]struct {
		o    box.Options
		bidi Possible
		want []string
	}{
		"a tunnel":              {box.Options{Tunnel: true}, Yes, []string{"way-grpc"}},
		"a tunnel, by Basic":    {box.Options{Tunnel: true, User: "me", Password: "secret"}, Yes, []string{"way-grpc"}},
		"HTTP/2 on both sides":  {box.Options{HTTP2: true}, Yes, []string{"way-grpc", "decrypted"}},
		"HTTP/1.1 only":         {box.Options{}, Yes, []string{"way-websocket", "decrypted", "no-http2"}},
		"HTTP/1.1 only, Via":    {box.Options{Via: true}, Yes, []string{"way-websocket", "decrypted", "no-http2"}},
		"no ALPN":               {box.Options{NoALPN: true}, Yes, []string{"way-websocket", "decrypted", "no-http2"}},
		"h2, and silence":       {box.Options{H2Silent: true}, Yes, []string{"way-websocket", "decrypted", "http2-dead"}},
		"HTTP/2, requests held": {box.Options{HTTP2: true, HoldRequests: true}, Yes, []string{"way-websocket", "decrypted", "grpc-held", "requests-held"}},
		"HTTP/2, bodies held":   {box.Options{HTTP2: true, HoldRequests: true, HoldResponses: true}, Yes, []string{"way-websocket", "decrypted", "grpc-held", "responses-held"}},
		"HTTP/2, bodies held, no WebSockets": {
			box.Options{HTTP2: true, HoldRequests: true, HoldResponses: true, Upgrade: box.Refused},
			No,
			[]string{"way-unary", "decrypted", "grpc-held", "websocket-refused", "responses-held", "box-answered"},
		},
		"HTTP/2 without trailers":      {box.Options{HTTP2: true, NoTrailers: true}, Yes, []string{"way-websocket", "decrypted", "grpc-trailers-lost"}},
		"HTTP/2 without grpc":          {box.Options{HTTP2: true, RefuseTypes: []string{"application/grpc*"}}, Yes, []string{"way-websocket", "decrypted", "grpc-refused", "grpc-web-refused", "box-answered"}},
		"Cloudflare without gRPC":      {box.Options{HTTP2: true, RefuseTypes: []string{"application/grpc"}, RefuseServer: "cloudflare"}, Yes, []string{"way-websocket", "decrypted", "grpc-refused-cloudflare", "box-answered"}},
		"Upgrade stripped":             {box.Options{Upgrade: box.Stripped}, Yes, []string{"way-grpc-web-bidi", "decrypted", "no-http2", "websocket-stripped"}},
		"Upgrade refused":              {box.Options{Upgrade: box.Refused}, Yes, []string{"way-grpc-web-bidi", "decrypted", "no-http2", "websocket-refused", "box-answered"}},
		"Upgrade hung":                 {box.Options{Upgrade: box.Hangs}, Yes, []string{"way-grpc-web-bidi", "decrypted", "no-http2", "websocket-silent"}},
		"WebSocket dead":               {box.Options{Upgrade: box.Dead}, Yes, []string{"way-grpc-web-bidi", "decrypted", "no-http2", "websocket-dead"}},
		"WebSocket deaf":               {box.Options{Upgrade: box.DeadToTheServer}, Yes, []string{"way-grpc-web-bidi", "decrypted", "no-http2", "websocket-dead-later"}},
		"WebSocket dead after a frame": {box.Options{Upgrade: box.DeadAfterFirst}, Yes, []string{"way-grpc-web-bidi", "decrypted", "no-http2", "websocket-dead-later"}},
		"requests held":                {box.Options{Upgrade: box.Stripped, HoldRequests: true}, No, []string{"way-grpc-web", "decrypted", "no-http2", "websocket-stripped", "requests-held"}},
		"responses held":               {box.Options{Upgrade: box.Stripped, HoldResponses: true}, No, []string{"way-unary", "decrypted", "no-http2", "websocket-stripped", "responses-held"}},
		"gRPC-Web's responses held":    {box.Options{Upgrade: box.Stripped, HoldTypes: []string{"application/grpc-web"}}, No, []string{"way-unary", "decrypted", "no-http2", "websocket-stripped", "responses-held"}},
		"event streams held":           {box.Options{HoldTypes: []string{"text/event-stream"}}, Yes, []string{"way-websocket", "decrypted", "no-http2"}},
		"chunked refused":              {box.Options{Upgrade: box.Stripped, Chunked: http.StatusLengthRequired}, No, []string{"way-grpc-web", "decrypted", "no-http2", "websocket-stripped", "chunked-refused", "box-answered"}},
		"chunked not implemented":      {box.Options{Chunked: http.StatusNotImplemented}, Yes, []string{"way-websocket", "decrypted", "no-http2", "chunked-refused", "box-answered"}},
		"small bodies":                 {box.Options{MaxBody: 1 << 20}, Yes, []string{"way-websocket", "decrypted", "no-http2", "body-capped", "box-answered"}},
		"small headers":                {box.Options{MaxHeader: 8 << 10}, Yes, []string{"way-websocket", "decrypted", "no-http2", "header-capped", "box-answered"}},
		"other types refused":          {box.Options{RefuseTypes: []string{"application/json", "application/connect*"}}, Yes, []string{"way-websocket", "decrypted", "no-http2", "types-refused", "box-answered"}},
		"all types refused":            {box.Options{Upgrade: box.Refused, RefuseTypes: []string{"application/*"}}, No, []string{"way-none", "decryption-unknown", "no-http2", "websocket-refused", "grpc-web-refused"}},
		"a black hole":                 {box.Options{MaxDown: 3000}, Yes, []string{"way-grpc-web-bidi", "decrypted", "no-http2", "websocket-dead-later", "transfer-cut"}},
		"chunked is busy":              {box.Options{Chunked: http.StatusServiceUnavailable}, Yes, []string{"way-websocket", "decrypted", "no-http2", "gateway-fails"}},
		"chunked is limited":           {box.Options{Chunked: http.StatusTooManyRequests}, Yes, []string{"way-websocket", "decrypted", "no-http2", "rate-limited"}},
		"chunked is not found":         {box.Options{Chunked: http.StatusNotFound}, Yes, []string{"way-websocket", "decrypted", "no-http2", "chunked-refused", "box-answered"}},
		"the gateway is down":          {box.Options{Upgrade: box.Stripped, RefuseTypes: []string{"application/*", ""}, RefuseCode: http.StatusBadGateway}, CantTell, []string{"way-unknown", "decryption-unknown", "no-http2", "gateway-fails"}},
		"all POSTs refused":            {box.Options{RefuseTypes: []string{"application/*"}, RefuseCode: http.StatusMethodNotAllowed}, Yes, []string{"way-websocket", "decrypted", "no-http2", "post-refused", "box-answered"}},
		"all POSTs cut":                {box.Options{CutPosts: true}, Yes, []string{"way-websocket", "decrypted", "no-http2", "post-refused"}},
		"wrong CA":                     {box.Options{Untrusted: true}, No, []string{"way-none", "tls-unknown-ca", "decryption-unknown"}},
		"TLS cut":                      {box.Options{TLSCut: true}, No, []string{"way-none", "tls-cut"}},
		"TLS silent":                   {box.Options{TLSHangs: true}, No, []string{"way-none", "tls-silent"}},
		"CONNECT hung":                 {box.Options{ConnectHangs: true}, No, []string{"way-none", "proxy-silent"}},
		"CONNECT refused":              {box.Options{ConnectCode: http.StatusForbidden}, No, []string{"way-none", "proxy-refuses"}},
		"CONNECT fails":                {box.Options{ConnectCode: http.StatusBadGateway}, No, []string{"way-none", "proxy-fails"}},
		"CONNECT answered by a lie":    {box.Options{ConnectRaw: "SSH-2.0-box\r\n"}, No, []string{"way-none", "proxy-fails"}},
		"NTLM":                         {box.Options{Schemes: []string{"NTLM", "Negotiate"}}, No, []string{"way-none", "proxy-login-unspoken"}},
		"a login":                      {box.Options{Schemes: []string{`Negotiate, Basic realm="a, b"`}}, No, []string{"way-none", "proxy-login"}},
		"cut after a second":           {box.Options{Age: time.Second, Ends: box.RST}, Yes, []string{"way-websocket", "decrypted", "no-http2", "age-cut"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.doctor = true
				w.startEdge()
				r := w.run(w.startBox(c.o))
				wantVerdicts(w.t, r, c.bidi, c.want...)
			})
		})
	}
}

// TestWithoutTheServicesHalf: what can't be told is said.
func TestWithoutTheServicesHalf(t *testing.T) {
	inBubble(t, func(w *world) {
		w.startEdge()
		o := w.direct()
		o.Idle = 2 * time.Minute
		r := w.run(o)
		wantVerdicts(w.t, r, Yes, "way-grpc", "decryption-unknown", "service-half-off")
	})
}

// TestClientCertificate: an edge that wants one is told from a network that breaks HTTP/2.
func TestClientCertificate(t *testing.T) {
	for name, c := range map[string]struct {
		version uint16
		want    []string
	}{
		"TLS 1.3": {tls.VersionTLS13, []string{"way-none", "decryption-unknown", "wants-certificate"}},
		"TLS 1.2": {tls.VersionTLS12, []string{"way-none", "wants-certificate"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.doctor = true
				w.tls = func(config *tls.Config) {
					config.MaxVersion, config.ClientAuth, config.ClientCAs = c.version, tls.RequireAndVerifyClientCert, w.authority.Pool
				}
				w.startEdge()
				o := w.direct()
				wantVerdicts(w.t, w.run(o), No, c.want...)
				o.TLS.Certificates = []tls.Certificate{parts.NewAuthority(w.t).Client(w.t)}
				wantVerdicts(w.t, w.run(o), No, c.want...)
				o.TLS.Certificates = []tls.Certificate{w.authority.Client(w.t)}
				wantVerdicts(w.t, w.run(o), Yes, "way-grpc")
			})
		})
	}
}

// spendCall makes the one call that the limit allows in this second.
func spendCall(w *world, config *tls.Config) {
	w.t.Helper()
	c := &http.Client{Transport: &http.Transport{DialContext: w.Dial, TLSClientConfig: config, DisableKeepAlives: true}}
	answer, err := c.Post("https://edge.example.com/culvert.v1.Path/Echo", "application/proto", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = answer.Body.Close() // nothing of it is read
	if answer.StatusCode != http.StatusOK {
		w.t.Fatalf("a call before the doctor's is answered with %s", answer.Status)
	}
}

// TestLimitedCalls: a culvert that refuses the doctor's calls says nothing about the network.
func TestLimitedCalls(t *testing.T) {
	inBubble(t, func(w *world) {
		w.change = func(cfg *bridge.Config) { cfg.Limits.Address.CallsPerSecond = 1 }
		w.startEdge()
		o := w.direct()
		spendCall(w, o.TLS) // or it is open which of the doctor's calls passes
		r := w.run(o)
		at := slices.IndexFunc(r.Verdicts, func(v Verdict) bool { return v.ID == "quota" })
		if r.Bidirectional != CantTell || r.Verdicts[0].ID != "way-unknown" || at < 0 {
			w.t.Fatalf("bidirectional streams: %s, verdicts %q\n%s", r.Bidirectional, ids(r), describe(r))
		}
		if e := r.Verdicts[at].Evidence; !strings.Contains(e, "LIMIT_EXCEEDED") || !strings.Contains(e, "Limits.Address.CallsPerSecond") {
			w.t.Errorf("the evidence is %q", e)
		}
	})
}

// An authenticator lets calls pass by their metadata.
type authenticator func(metadata.MD) bool

func (a authenticator) Authenticate(_ context.Context, r *bridge.AuthRequest) (*bridge.Identity, error) {
	md := r.Metadata
	if a(md) {
		return nil, nil
	}
	return nil, status.Error(codes.Unauthenticated, "who are you?")
}

// TestCredentials: a header is sent only where somebody has verified the edge, and no report
// has its value, nor the proxy's password.
func TestCredentials(t *testing.T) {
	const token = "Bearer secret-token"
	for name, c := range map[string]struct {
		change func(*Options)
		sent   bool
	}{
		"verified": {func(*Options) {}, true},
		"insecure": {func(o *Options) { o.TLS.InsecureSkipVerify = true }, false},
		"unknown":  {func(o *Options) { o.TLS.RootCAs = parts.NewAuthority(t).Pool }, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				var got atomic.Int64
				w.doctor = true
				w.change = func(cfg *bridge.Config) {
					cfg.Authenticator = authenticator(func(md metadata.MD) bool {
						if slices.Contains(md["authorization"], token) {
							got.Add(1)
							return true
						}
						return false
					})
				}
				w.startEdge()
				o := w.startBox(box.Options{HTTP2: true, User: "me", Password: "secret-password"})
				o.Headers = []string{"authorization: " + token}
				c.change(&o)
				r := w.run(o)
				if (got.Load() > 0) != c.sent {
					w.t.Errorf("the token was sent %d times\n%s", got.Load(), describe(r))
				}
				text, err := json.Marshal(r)
				if err != nil || strings.Contains(string(text), "secret") {
					w.t.Errorf("the report (%v) has a secret: %s", err, text)
				}
			})
		})
	}
}

// TestWrongOptions says what is wrong.
func TestWrongOptions(t *testing.T) {
	for _, c := range []struct {
		url  string
		o    Options
		want string
	}{
		{"https://me:secret@edge", Options{}, "has a user"},
		{"edge:8080", Options{}, "write it as https://edge.example.com"},
		{"edge", Options{}, "write it as https://edge.example.com"},
		{"https://edge:99999", Options{}, "between 1 and 65535"},
		{"ftp://edge", Options{}, "use https"},
		{"https://edge?x", Options{}, "a query"},
		{"https://edge", Options{Origin: "app.example.com"}, "--origin"},
		{"https://edge", Options{Origin: "https://app.example.com/app"}, "--origin"},
		{"https://edge", Options{Origin: "https://me:secret@app.example.com"}, "--origin"},
		{"https://edge", Options{ConnectTo: "edge"}, "HOST:PORT"},
		{"https://edge", Options{ConnectTo: "unix:/x"}, "HOST:PORT"},
		{"https://edge", Options{ConnectTo: "edge:https"}, "HOST:PORT"},
		{"https://edge", Options{Proxy: "proxy:3128:x"}, "isn't a proxy address"},
		{"https://edge", Options{Headers: []string{"a b: secret"}}, "-H: header 1 isn't a name, a colon and a value"},
		{"https://edge", Options{Headers: []string{"content-type: secret"}}, "-H: content-type belongs to the protocol"},
		{"https://edge", Options{Proxy: "ftp://u:secret@x"}, "use http, https or socks5"},
	} {
		_, err := Run(t.Context(), c.url, c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s with %+v: %v, want %q", c.url, c.o, err, c.want)
		}
	}
}

// TestSlowNetwork: a run ends in time, also where each step takes nearly as long as it may.
func TestSlowNetwork(t *testing.T) {
	inBubble(t, func(w *world) {
		w.startEdge()
		o := w.direct()
		lookup, dial := o.lookup, o.dialer
		o.lookup = func(ctx context.Context, host string) ([]string, error) {
			<-time.After(connectLimit - time.Second)
			return lookup(ctx, host)
		}
		o.dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
			<-time.After(connectLimit - time.Second)
			return dial(ctx, network, address)
		}
		wantVerdicts(w.t, w.run(o), No, "way-none", "tls-silent")
	})
}

// TestServiceIsAskedByAllWays: one answer of the service's half is enough, whatever the others
// get. Ways ask at once, so note decides.
func TestServiceIsAskedByAllWays(t *testing.T) {
	told := 0
	x := &examination{found: findings{}, o: Options{Progress: func(Finding) { told++ }}}
	for _, r := range []Result{unknown, failed, works, unknown, works} {
		x.note(found(r, "").of(probeService))
	}
	if got := x.earlier(probeService).Result; got != works || told != 2 {
		t.Errorf("the service's half: %s, told %d times; want %s, twice", got, told, works)
	}
}
