package telemetry

import (
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// sendTo sends a request to an HTTP receiver, which answers by its handler.
func sendTo(t *testing.T, to Receiver, handler http.HandlerFunc) (rejected int64, err error) {
	t.Helper()
	server := httptest.NewServer(handler)
	defer server.Close()
	to.Endpoint, to.Timeout = server.URL+to.Endpoint, time.Minute
	traces, err := OpenTraces(to, TraceRules{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer traces.Close(time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return traces.queue.to.to.send(ctx, []byte("request"))
}

func TestRequestsOverHTTP(t *testing.T) {
	for _, c := range []struct {
		to   Receiver
		path string
	}{
		{Receiver{Endpoint: "/v1/traces"}, "/v1/traces"},
		{Receiver{Endpoint: "/otlp/in", Gzip: true}, "/otlp/in"},
	} {
		c.to.Headers = map[string]string{"api-key": "secret", "content-type": "text/html"}
		_, err := sendTo(t, c.to, func(_ http.ResponseWriter, r *http.Request) {
			var body io.Reader = r.Body
			if r.Header.Get("Content-Encoding") == "gzip" {
				var err error
				if body, err = gzip.NewReader(body); err != nil {
					t.Error(err)
				}
			}
			text, err := io.ReadAll(body)
			if err != nil || string(text) != "request" || r.URL.Path != c.path || r.Method != http.MethodPost ||
				r.Header.Get("Api-Key") != "secret" || r.Header.Get("Content-Type") != "application/x-protobuf" {
				t.Errorf("%s %s with %v: %q, %v", r.Method, r.URL.Path, r.Header, text, err)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestAnswersOfReceivers: which requests are sent again, and what an error says.
func TestAnswersOfReceivers(t *testing.T) {
	partial := protowire.AppendTag(nil, partialRejected, protowire.VarintType)
	partial = protowire.AppendVarint(partial, 3)
	partial = message(partial).text(partialText, "too old")
	for _, c := range []struct {
		name     string
		first    http.HandlerFunc
		sent     int
		rejected int64
		says     string // "": it succeeds
	}{
		{"taken", func(http.ResponseWriter, *http.Request) {}, 1, 0, ""},
		{"later", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, 2, 0, ""},
		{"wrong", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, 1, 0, "401 Unauthorized"},
		{"elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
		}, 1, 0, "307 Temporary Redirect"},
		{"partly", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(message(nil).bytes(responsePartial, partial)) // the test sees it
		}, 1, 3, "too old"},
		{"nonsense", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("thanks")) // as above
		}, 1, 0, ""},
	} {
		sent := 0
		rejected, err := sendTo(t, Receiver{Headers: map[string]string{"api-key": "secret"}}, func(w http.ResponseWriter, r *http.Request) {
			if sent++; sent == 1 {
				c.first(w, r)
			}
		})
		if sent != c.sent || rejected != c.rejected || (err != nil) != (c.says != "") {
			t.Errorf("%s: sent %d times, %d rejected, %v", c.name, sent, rejected, err)
		}
		if err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: it says %v", c.name, err)
		}
	}
}

func FuzzRejectedIn(f *testing.F) {
	f.Add([]byte{10, 4, 8, 3, 18, 0})
	f.Fuzz(func(t *testing.T, answer []byte) {
		if spans, why := rejectedIn(answer); spans < 0 || len(why) > attributeBytes+len("…") {
			t.Errorf("%x rejects %d because of %q", answer, spans, why)
		}
	})
}

// FuzzSpan: whatever a client sends, its span can be read.
func FuzzSpan(f *testing.F) {
	f.Add("/a.B/C", "a:80", "1.2.3.4:5", "vendor=1", int64(7))
	f.Fuzz(func(t *testing.T, method, authority, peer, state string, n int64) {
		s := &callSpan{traces: &Traces{}, state: state[:min(len(state), maxStateBytes)]}
		s.Span, s.link.span = [8]byte{1}, [8]byte{2}
		c := &report.CallInfo{Method: method, Authority: authority, Peer: peer, MessagesIn: max(n, 0)}
		span := readSpanOf(t, s.server(nil, c, n > 0))
		if len(span.links) != 1 || len(span.attributes) < 4 {
			t.Errorf("it is %+v", span)
		}
	})
}
