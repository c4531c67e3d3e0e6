package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write the files that are made from the answers")

var (
	testBegan = time.Date(2026, 11, 22, 12, 0, 0, 123456789, time.UTC)
	testNow   = testBegan.Add(90 * time.Second)
)

// testCall has a value in each of its fields.
func testCall() Call {
	return Call{
		ID: "3ab426dec4b436a5", Method: "/shop.v1.Orders/Watch", Route: "orders", Backend: "orders", Transport: "grpc-websockets", Listener: "public",
		Peer: "192.0.2.7:50312", Client: "spiffe://example.org/ns/shop/sa/web", Identity: "alice@example.com",
		Began: testBegan, AgeSeconds: 90, MessagesIn: 1, MessagesOut: 5210, BytesIn: 12, BytesOut: 1048576, MemoryBytes: 65536,
		LastMessage: testNow.Add(-7 * time.Second).Truncate(time.Second), WaitsFor: WaitsForClient, WaitingSeconds: 6,
	}
}

// testData has an answer for each page, with a value in each field.
func testData() Data {
	call := testCall()
	return Data{
		Calls: func(CallQuery) Calls {
			return Calls{At: testNow, Open: 412, Matching: 14, Waiting: WaitingCalls{Client: 3, Backend: 1, Memory: 2, Place: 4, Answer: 1}, Calls: []Call{call}}
		},
		StopCall: func(s Stop) Stopped {
			switch {
			case s.ID == "twice" && s.Began.IsZero():
				return Stopped{Found: 2}
			case s.ID == "gone":
				return Stopped{}
			}
			return Stopped{Stopped: 1, Call: call}
		},
		Connections: func() Connections {
			return Connections{At: testNow, Connections: []ConnectionCount{{Listener: "public", Transport: "websocket", Open: 12, Tunnels: 2}}, Calls: []CallCount{{Listener: "public", Transport: "grpc-websockets", Open: 12}}}
		},
		Backends: func() Backends {
			return Backends{At: testNow, Backends: []BackendState{{
				Name: "orders", State: "ready", Draining: true, Calls: 412, Waiting: 4, LostPings: 1, RetriesByPolicy: 2, RetriesElsewhere: 3, RetriesWithheld: 4,
				Addresses: []Address{{Address: "10.0.0.3:9000", Accepts: true, Unhealthy: true, Failure: "connection refused", Connections: 2, Calls: 150, Places: 200, Picks: 90210}},
			}}}
		},
		Routes: func() Routes {
			return Routes{At: testNow, Since: testBegan, WindowSeconds: 60, Left: 1, Routes: []Route{{
				Route: "orders", Backend: "orders", Calls: 6000, Errors: 60, Cancelled: 30, CallsPerSecond: 100, ErrorsPerSecond: 1, MeanSeconds: 0.012,
			}}}
		},
		Memory: func(int) Memory {
			return Memory{
				At: testNow, HeldBytes: 20 << 20, LimitBytes: 512 << 20, MessageBytes: 1 << 20, MessageLimit: 256 << 20, Evicted: 3, CallBytes: 19 << 20, OtherBytes: 1 << 20,
				Calls: []Call{call}, Addresses: []AddressMemory{{Address: "192.0.2.7", Calls: 12, MemoryBytes: 786432}}, AddressesLeft: 5,
				Connections: []ConnectionMemory{{Peer: "192.0.2.7:50312", Listener: "public", Transport: "h2", Calls: 12, MemoryBytes: 57344}},
			}
		},
		Limits: func() Limits {
			return Limits{At: testNow, Limits: []LimitCount{{Key: "limits.calls", Reason: "LIMIT_EXCEEDED", Refused: 17, ReportOnly: 2, Last: testNow}}, Last: []Refusal{{
				At: testNow, Key: "limits.calls", Reason: "LIMIT_EXCEEDED", Peer: "192.0.2.7:50312", Detail: "/shop.v1.Orders/Watch", ReportOnly: true,
			}}}
		},
		Failures: func(q FailureQuery) Failures {
			return Failures{At: testNow, Counts: []FailureCount{{Origin: "culvert", Reason: "LIMIT_EXCEEDED", Code: "RESOURCE_EXHAUSTED", Failed: 17}}, Failures: []Failure{{
				At: testNow, ID: "3ab426dec4b436a5", Method: "/shop.v1.Orders/Watch", Route: "orders", Backend: "orders", Transport: "grpc-web", Listener: "public",
				Peer: "192.0.2.7:50312", Client: "spiffe://example.org/ns/shop/sa/web", Identity: "alice@example.com", Origin: "culvert", Reason: "LIMIT_EXCEEDED", Limit: "limits.calls",
				Code: "RESOURCE_EXHAUSTED", Message: "100 calls are running, which is the limit (limits.calls)", Cause: "<script>alert(1)</script>", DurationSeconds: 0.25,
			}}}
		},
		Certificates: func() Certificates {
			return Certificates{At: testNow, Certificates: []Certificate{{
				Names: []Text{"grpc.example.com"}, Source: "file", File: "/etc/culvert/tls.crt", NotAfter: testNow.Add(240 * time.Hour), ExpiresInSeconds: 864000, Ending: true, OnDemand: true,
			}}, Problems: []Text{"grpc.example.com: the CA refuses the order"}, ACMELeft: 3, ACME: []ACMEName{{
				Name: "shop.example.com", OnDemand: true, State: "failing", NotAfter: testNow.Add(72 * time.Hour), NextTry: testNow.Add(5 * time.Minute), FailingSince: testBegan, Failures: 3, Problem: "the CA can't be reached",
			}}}
		},
		Auth: func() Auth {
			return Auth{
				At: testNow, Enabled: true, Enforced: true, Since: testBegan, Ways: []Text{"staff", "api_keys", "external"},
				Refused: []AuthRefused{{
					Key: "auth.issuers", Issuer: "staff", Reason: "UNAUTHENTICATED", Calls: 3, Last: testNow, Cause: "the token has expired: exp is 2026-11-22T11:59:00Z",
				}},
				Rules: []AuthRule{{Name: "admins", Effect: "allow", Calls: 90}},
				Issuers: []AuthIssuer{{
					Name: "staff", Issuer: "https://id.example.com", Keys: 2, Fetched: testBegan, Next: testNow.Add(5 * time.Minute), Failures: 1, Problem: "id.example.com: HTTP status 503",
					Skipped: []AuthSkippedKey{{ID: "2026-enc", Why: "its use is enc, not sig"}},
				}},
				Tokens:     AuthTokens{Good: 120, Refused: 3, Bytes: 131072, Unverified: 7},
				APIKeyFile: []AuthFile{{File: "/etc/culvert/api-keys", Keys: 12, Read: testBegan, Problem: "line 3: begins with no hash"}},
				Services:   []AuthService{{Name: "external", Problem: "no answer in 50ms", Allowed: 6000, Denied: 60, Failed: 2, Open: 1, Cancelled: 4, Unasked: 5, Cached: 3000, Shared: 20, Asking: 1, MeanSeconds: 0.004}},
			}
		},
	}
}

// dataControl returns the pages of a culvert for tests, with all data.
func dataControl(t *testing.T) *Control {
	t.Helper()
	c, _ := control(t)
	at := c.Configuration()
	at.File, at.Difference, at.Restart = "/etc/culvert/proxy.yaml", []string{"limits.calls", "listen[0].address"}, []string{"listen[0].address"}
	c.Configuration = func() Configuration { return at }
	c.Problems = func() []string {
		return []string{"the newest configuration in /etc/culvert/proxy.yaml isn't in use: the log says why"}
	}
	c.Started = testBegan
	c.Access = &Access{Log: c.Log}
	return c
}

// TestDataIsGolden: programs read these answers, so a name or a type never changes by accident.
// Each field has a value, so that none is missing here.
func TestDataIsGolden(t *testing.T) {
	c := dataControl(t)
	c.Access.SetToken(tokenOf(t, secret))
	h := c.Handler()
	for _, page := range pages {
		w := ask(t, h, page.method, page.example, "", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+secret) })
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: got %d, %v: %s", page.method, page.example, w.Code, w.Header(), w.Body)
		}
		var out bytes.Buffer
		if err := json.Indent(&out, w.Body.Bytes(), "", "  "); err != nil {
			t.Fatal(err)
		}
		got := out.Bytes()
		if page.root == reflect.TypeFor[Status]() { // it has the clock
			var s Status
			if err := json.Unmarshal(got, &s); err != nil || time.Since(s.At) > time.Hour {
				t.Errorf("%s: %v, at %v", page.example, err, s.At)
			}
			got = bytes.Replace(got, []byte(s.At.Format(time.RFC3339Nano)), []byte(testNow.Format(time.RFC3339Nano)), 1)
		}
		path := filepath.Join("testdata", "api", page.file+".json")
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s %s differs from %s: got\n%s", page.method, page.example, path, got)
		}
		unset(t, page.file, got, page.root)
	}
}

// unset reports the fields of a type that JSON doesn't set, except Stopped.Found and
// DrainState.RefusesIn, which are for other answers.
func unset(t *testing.T, page string, text []byte, root reflect.Type) {
	t.Helper()
	v := reflect.New(root)
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v.Interface()); err != nil {
		t.Errorf("%s: %v", page, err)
	}
	var look func(at string, v reflect.Value)
	look = func(at string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Slice:
			if v.Len() == 0 {
				t.Errorf("%s: %s has no example", page, at)
				return
			}
			look(at+"[0]", v.Index(0))
		case reflect.Struct:
			if _, ok := v.Interface().(time.Time); ok {
				break
			}
			for i := range v.NumField() {
				if name := v.Type().Field(i).Name; name != "Found" && name != "RefusesIn" {
					look(at+"."+name, v.Field(i))
				}
			}
			return
		}
		if v.IsZero() && !strings.HasSuffix(at, ".Drain.Calls") {
			t.Errorf("%s: %s has no example", page, at)
		}
	}
	look(root.Name(), v.Elem())
}

func TestDataRefusesWhatItCantAnswer(t *testing.T) {
	h := dataControl(t).Handler()
	for _, x := range []struct {
		method, path string
		status       int
		want         string // is in the answer
	}{
		{"GET", "/calls?limit=0", 400, "limit is \"0\": write a number from 1 to 1000"},
		{"GET", "/calls?limit=1001", 400, "from 1 to 1000"},
		{"GET", "/calls?order=size", 400, "write age, messages, bytes, memory, last_message or waiting"},
		{"GET", "/calls?waits_for=godot", 400, "write client, backend, memory, place, answer or any"},
		{"GET", "/calls?methods=x", 400, "the parameter \"methods\" is unknown: write backend, id, "},
		{"GET", "/calls?peer=1&peer=2", 400, "the parameter \"peer\" is given 2 times"},
		{"GET", "/calls?peer=%zz", 400, "the query can't be read"},
		{"GET", "/calls?a%1b[2Jb=1", 400, "the parameter \"a\\x1b[2Jb\" is unknown"},
		{"GET", "/memory?limit=101", 400, "limit is \"101\": write a number from 0 to 100"},
		{"GET", "/memory?limit=-1", 400, "from 0 to 100"},
		{"GET", "/memory?limit=0", 200, `"held_bytes":`},
		{"GET", "/memory?order=x", 400, "the parameter \"order\" is unknown: write limit"},
		{"GET", "/status?x=1", 400, "this page has none"},
		{"GET", "/failures?code=1", 400, "write origin or reason"},
		{"POST", "/calls/1/stop?began=yesterday", 400, "write the call's began from /calls"},
		{"POST", "/calls/twice/stop", 409, "2 open calls have this id: select one by its began"},
		{"POST", "/calls/twice/stop?began=2026-11-22T12:00:00.123456789Z", 200, `"stopped":1`},
		{"POST", "/calls/gone/stop", 404, "no open call has this id"},
		{"GET", "/calls/1/stop", 405, ""},
		{"POST", "/calls", 405, ""},
	} {
		if w := ask(t, h, x.method, x.path, "", nil); w.Code != x.status || !strings.Contains(w.Body.String(), x.want) {
			t.Errorf("%s %s: got %d %q, want %d with %q", x.method, x.path, w.Code, w.Body, x.status, x.want)
		}
	}
	w := ask(t, h, http.MethodPost, "/calls/1/stop", "", func(r *http.Request) { r.Header.Del(Header) })
	if w.Code != http.StatusForbidden {
		t.Errorf("a stop without %s: got %d, want 403", Header, w.Code)
	}
}

// TestStatusOfAFreshProgram: lists are empty and not null, and what isn't known is absent.
func TestStatusOfAFreshProgram(t *testing.T) {
	c := dataControl(t)
	c.Configuration = func() Configuration { return Configuration{Version: "1", Since: testBegan} }
	c.Problems = func() []string { return nil }
	got := ask(t, c.Handler(), http.MethodGet, "/status", "", nil).Body.String()
	if want := `"file":"","version":"1","since":"2026-11-22T12:00:00.123456789Z","rejected":[],"difference":[],"restart":[]},"problems":[],"token":false}`; !strings.Contains(got, want) {
		t.Errorf("got %s, want %s in it", got, want)
	}
	c.Configuration = func() Configuration { return Configuration{Rejected: errors.New(strings.Repeat("x\n", 150))} }
	var s Status
	if err := json.Unmarshal(ask(t, c.Handler(), http.MethodGet, "/status", "", nil).Body.Bytes(), &s); err != nil || len(s.Configuration.Rejected) != maxTexts+1 || s.Configuration.Rejected[maxTexts] != "and 51 more" {
		t.Errorf("%v: got %d lines, want %d", err, len(s.Configuration.Rejected), maxTexts+1)
	}
	level := new(slog.LevelVar)
	level.Set(slog.LevelWarn)
	c.Level = level
	if got := c.status().LogLevel; got != "warn" {
		t.Errorf("the log's level is %q, want warn", got)
	}
}

// FuzzEncode: JSON has no character that a terminal or a page acts on, means the same, and is
// bounded.
func FuzzEncode(f *testing.F) {
	for _, s := range []string{"a", "<script>", "\x1b[31m\u009b\u202e", "\xff\xfe", strings.Repeat("ä", maxText), "\U000e0001\u2028\x7f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := encode(Call{Method: Text(s)})
		if bytes.ContainsFunc(text[:len(text)-1], func(r rune) bool { return !unicode.IsPrint(r) || r == '<' || r == '>' || r == '&' }) {
			t.Errorf("%q: %q", s, text)
		}
		var got Call
		if err := json.Unmarshal(text, &got); err != nil || len(got.Method) > 3*maxText+len("…") || len(s) <= maxText && utf8.ValidString(s) && string(got.Method) != s {
			t.Errorf("%q: got %q, %v", s, got.Method, err)
		}
	})
}

// FuzzParseCallQuery: a query that is read has an order and a limit in their bounds.
func FuzzParseCallQuery(f *testing.F) {
	for _, s := range []string{"", "order=age&limit=10", "waits_for=client&method=Watch&peer=192.0.2", "limit=-1", "%", "a=b;c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		q, err := ParseCallQuery(query)
		if err == nil && (q.Limit < 1 || q.Limit > maxCalls || q.Order == "") {
			t.Errorf("%q: %+v", query, q)
		}
	})
}
