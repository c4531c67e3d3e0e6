package bridge

import (
	"bytes"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	coder "github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// asBearer is the subprotocol that carries a token.
func asBearer(token string) string {
	return bearerPrefix + base64.RawURLEncoding.EncodeToString([]byte(token))
}

func TestBearerIn(t *testing.T) {
	long := strings.Repeat("x", maxBearer)
	for offer, want := range map[string]string{
		"":                         "",
		"grpc-websockets":          "",
		"h2ts, " + asBearer("a@b"): "a@b",
		asBearer("a@b") + ",h2ts":  "a@b",
		"CULVERT.Bearer." + asBearer("a@b")[len(bearerPrefix):]: "a@b",
		asBearer(long):                           long,
		asBearer(long + "x"):                     "1 B to 16 KiB",
		bearerPrefix:                             "1 B to 16 KiB",
		bearerPrefix + "YUBi=":                   "without padding",
		bearerPrefix + "a+b/":                    "base64url",
		bearerPrefix + "YUBj!":                   "base64url",
		asBearer("a\r\nb"):                       "printable ASCII",
		asBearer("zoë"):                          "printable ASCII",
		asBearer("a@b") + ", " + asBearer("c@d"): "twice",
	} {
		token, err := bearerIn(http.Header{"Sec-Websocket-Protocol": {"x", offer}})
		got := token
		if err != nil {
			got = err.Error()
		}
		if err == nil && got != want || err != nil && (want == "" || !strings.Contains(got, want)) {
			t.Errorf("%.60q has %.60q, want %.60q", offer, got, want)
		}
		if err != nil && strings.Contains(got, "YUBi") {
			t.Errorf("%q tells the token", got)
		}
	}
}

func FuzzBearerIn(f *testing.F) {
	f.Add("h2ts, culvert.bearer.YUBi")
	f.Add("culvert.bearer.YUBi,culvert.bearer.YUBj")
	f.Fuzz(func(t *testing.T, offer string) {
		token, err := bearerIn(http.Header{"Sec-Websocket-Protocol": {offer}})
		if err != nil {
			if reasonOf(err) != report.ReasonUnauthenticated || token != "" {
				t.Errorf("%q: %q, %v", offer, token, err)
			}
			return
		}
		if token != "" && !strings.Contains(offer, base64.RawURLEncoding.EncodeToString([]byte(token))) {
			t.Errorf("%q has %q", offer, token)
		}
	})
}

// TestBearerSubprotocol: the token of each kind of WebSocket reaches the Authenticator and
// nobody else.
func TestBearerSubprotocol(t *testing.T) {
	var log bytes.Buffer
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		said := strings.Join(md["x-culvert-subject"], "+")
		for name, values := range md {
			if all := strings.Join(values, " "); strings.Contains(all, "a@home") || strings.Contains(all, asBearer("a@home")) {
				said += " and " + name
			}
		}
		return ss.SendMsg([]byte(said))
	})
	cfg := Config{
		Backend: Backend{Target: backend}, Authenticator: &doorman{}, BearerSubprotocol: true,
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Routes: []Route{
			{Name: "bare", Backend: DefaultBackend, Message: &MessageRoute{Path: "/bare", Method: "a.B/C", Framing: FramingProtobuf}},
			{Name: "named", Backend: DefaultBackend, Message: &MessageRoute{Path: "/named", Method: "a.B/C", Framing: FramingProtobuf, Subprotocol: "chat"}},
			{Name: "agents", Backend: DefaultBackend, Message: &MessageRoute{Path: "/agents", Method: "a.B/C", Framing: FramingOpAMP}},
			{Name: "all", Backend: DefaultBackend},
		},
	}
	s := newServer(t, cfg)
	address := serve(t, s)
	// opens opens a WebSocket, and returns the subprotocol that culvert selects, the first answer,
	// or why there is none.
	opens := func(path string, offer ...string) (selected, answer string) {
		ws, res, err := coder.Dial(t.Context(), "ws://"+address+path, &coder.DialOptions{Subprotocols: offer})
		if err != nil {
			if res == nil {
				t.Fatal(err)
			}
			return "", res.Status
		}
		defer func() { _ = ws.CloseNow() }()
		for name, values := range res.Header {
			if strings.Contains(strings.Join(values, " "), bearerPrefix) {
				t.Errorf("%s: the answer's %s has the token", path, name)
			}
		}
		if path == testMethod {
			return ws.Subprotocol(), shown(asksOn(t.Context(), t, ws, "a: b\r\n"))
		}
		_, m, err := ws.Read(t.Context())
		if told := (coder.CloseError{}); errors.As(err, &told) {
			return ws.Subprotocol(), told.Reason
		}
		return ws.Subprotocol(), string(m)
	}
	good := asBearer("a@home")
	for _, c := range []struct {
		path             string
		offer            []string
		selected, answer string
	}{
		{testMethod, []string{"grpc-websockets", good}, "grpc-websockets", "a"},
		{testMethod, []string{good, "grpc-websockets"}, "grpc-websockets", "a"},
		{testMethod, []string{"grpc-websockets", good, asBearer("b@home")}, "grpc-websockets", "Unauthenticated"},
		{testMethod, []string{"grpc-websockets", bearerPrefix + "a+b/"}, "grpc-websockets", "Unauthenticated"},
		{testMethod, []string{good}, "", "400 Bad Request"},
		{"/bare", []string{"any", good}, "any", "a"},
		{"/bare", []string{good, "any", "other"}, "any", "a"},
		{"/bare", []string{good}, "", "400 Bad Request"},
		{"/bare", []string{"any", bearerPrefix + "a+b/"}, "any", "UNAUTHENTICATED: the WebSocket subprotocol culvert.bearer.… must end"},
		{"/bare", []string{"any"}, "", "UNAUTHENTICATED: send a token"},
		{"/named", []string{"chat", good}, "chat", "a"},
		{"/named", []string{"any", good}, "", "400 Bad Request"},
		{"/agents", []string{"any", good}, "any", "\x00a"},
		{"/agents", []string{"any", good, good}, "", "401 Unauthorized"},
	} {
		selected, answer := opens(c.path, c.offer...)
		if selected != c.selected || !strings.HasPrefix(answer, c.answer) || strings.Contains(answer, " and ") {
			t.Errorf("%s with %.60q: %q, %q; want %q, %q", c.path, c.offer, selected, answer, c.selected, c.answer)
		}
	}
	for offer, want := range map[string]string{good: "a", bearerPrefix + "a+b/": "Unauthenticated"} {
		cc := dial(t, address, grpc.WithContextDialer(tunnelDialer(nil, tunnelName, offer)))
		for range 2 {
			if got := asks(within(t, patience), cc, testMethod); !strings.HasPrefix(got, want) {
				t.Errorf("in a tunnel with %s: %q, want %q", offer, got, want)
			}
		}
	}

	cfg.BearerSubprotocol = false
	apply(t, s, cfg)
	for path, c := range map[string][2]string{testMethod: {"grpc-websockets", "Unauthenticated"}, "/named": {"chat", "UNAUTHENTICATED: send a token"}} {
		if _, answer := opens(path, c[0], good, good); !strings.HasPrefix(answer, c[1]) {
			t.Errorf("off, %s: %q, want %q", path, answer, c[1])
		}
	}
	if selected, answer := opens("/bare", "any", good); selected != "" || !strings.HasPrefix(answer, "UNAUTHENTICATED: send a token") {
		t.Errorf("off, on a route without a subprotocol: %q, %q", selected, answer)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for _, secret := range []string{good, "a@home", "YUBi"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

// TestBearerStaysHere: the web server doesn't get a token that a page sends culvert.
func TestBearerStaysHere(t *testing.T) {
	got := make(chan string, 1)
	to := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		got <- strings.Join(r.Header["Sec-Websocket-Protocol"], "|")
		w.WriteHeader(http.StatusTeapot)
	})
	address := serve(t, newServer(t, Config{Backend: nowhere, Authenticator: &doorman{}, BearerSubprotocol: true, FallbackURL: to}))
	for offer, want := range map[string]string{"chat, " + asBearer("a@home") + ", other": "chat, other", asBearer("a@home"): ""} {
		_, res, err := coder.Dial(t.Context(), "ws://"+address+"/app", &coder.DialOptions{HTTPHeader: http.Header{}, Subprotocols: strings.Split(offer, ", ")})
		if err == nil || res == nil || res.StatusCode != http.StatusTeapot {
			t.Fatalf("%v, %v; want the web server's answer", res, err)
		}
		if told := await(t, "the web server's request", got); told != want {
			t.Errorf("the web server is offered %q, want %q", told, want)
		}
	}
}
