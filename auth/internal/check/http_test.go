package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// discardLog is for servers whose clients turn away.
var discardLog = log.New(io.Discard, "", 0)

// httpChecker returns a Checker of a new real service.
func httpChecker(t testing.TB, h HTTP, o Options, handle http.HandlerFunc) *Checker {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	h.URL = server.URL + "/auth?app=shop"
	return closed(t)(NewHTTP(h, o))
}

func TestHTTPQuestions(t *testing.T) {
	forged := aCall()
	forged.Metadata = metadata.MD{
		"authorization": {"Bearer abc"}, "cookie": {"a=1", "b=2"}, "x-a": {"1", "2"}, "x-b-bin": {"\x00\x01", "\xff"},
		"x-forwarded-for": {"10.0.0.1"}, "x-forwarded-uri": {"/public"}, "x-forwarded-method": {"GET"}, "x-request-id": {"forged"},
	}
	own := http.Header{
		"X-Forwarded-Method": {"POST"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"shop.example:8443"},
		"X-Forwarded-Uri": {"/shop.v1.Orders/Get"}, "X-Forwarded-For": {"192.0.2.1"}, "X-Request-Id": {"c1"}, "User-Agent": {"culvert"},
	}
	with := func(more http.Header) http.Header {
		h := own.Clone()
		for name, values := range more {
			h[name] = values
		}
		return h
	}
	for name, c := range map[string]struct {
		http   HTTP
		names  []string
		call   Request
		method string
		want   http.Header
	}{
		"by default":              {HTTP{}, nil, forged, "POST", with(http.Header{"Authorization": {"Bearer abc"}, "Cookie": {"a=1; b=2"}, "Content-Length": {"0"}})},
		"with GET":                {HTTP{Get: true}, nil, forged, "GET", with(http.Header{"Authorization": {"Bearer abc"}, "Cookie": {"a=1; b=2"}})},
		"with other metadata":     {HTTP{Get: true}, []string{"x-a", "x-b-bin", "x-missing"}, forged, "GET", with(http.Header{"X-A": {"1", "2"}, "X-B-Bin": {"AAE", "/w"}})},
		"without metadata":        {HTTP{Get: true}, []string{}, forged, "GET", own},
		"of a call without facts": {HTTP{Get: true}, nil, Request{Method: "/a.B/C", Scheme: "http"}, "GET", http.Header{"X-Forwarded-Method": {"POST"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Uri": {"/a.B/C"}, "User-Agent": {"culvert"}}},
	} {
		got := make(chan *http.Request, 1)
		o := patient()
		o.Names = c.names
		checker := httpChecker(t, c.http, o, func(_ http.ResponseWriter, r *http.Request) {
			if body, err := io.ReadAll(r.Body); err != nil || len(body) > 0 {
				t.Errorf("%s: a body of %d bytes, %v", name, len(body), err)
			}
			got <- r
		})
		if answer, err := checker.Check(t.Context(), c.call); err != nil || !same(answer, Answer{}) {
			t.Errorf("%s: got %+v, %v", name, answer, err)
			continue
		}
		r := <-got
		if r.Method != c.method || r.RequestURI != "/auth?app=shop" || !reflect.DeepEqual(r.Header, c.want) {
			t.Errorf("%s: got %s %s %v\nwant %v", name, r.Method, r.RequestURI, r.Header, c.want)
		}
	}
}

func TestHTTPAnswers(t *testing.T) {
	refusal := func(kind Kind, code codes.Code, message string, header metadata.MD) *Refusal {
		return &Refusal{Kind: kind, Code: code, Message: message, Header: header}
	}
	own := Edits{{"x-user", "", Remove}, {"x-sig-bin", "", Remove}}
	denied := refusal(Denied, codes.PermissionDenied, deniedText, nil)
	unauthentic := refusal(Unauthenticated, codes.Unauthenticated, unauthenticText, nil)
	unavailable := refusal(Unavailable, codes.Unavailable, unavailableText, nil)
	redirected := refusal(Unauthenticated, codes.Unauthenticated, "the authorization service wants the client to sign in on a web page first", nil)
	for name, c := range map[string]struct {
		status  int
		header  http.Header
		body    string
		want    Answer
		refused *Refusal
		cause   string
	}{
		"200":                      {200, nil, "fine", Answer{Request: own}, nil, ""},
		"204":                      {204, nil, "", Answer{Request: own}, nil, ""},
		"listed headers":           {200, http.Header{"X-User": {"alice", "bob"}, "X-Sig-Bin": {"AAE"}, "X-Other": {"1"}}, "", Answer{Request: slices.Concat(own, Edits{{"x-user", "alice", Append}, {"x-user", "bob", Append}, {"x-sig-bin", "\x00\x01", Append}})}, nil, ""},
		"removals":                 {200, http.Header{removeHeader: {"Authorization, cookie", "x-a"}, "X-User": {""}}, "", Answer{Request: slices.Concat(own, Edits{{"x-user", "", Append}, {"authorization", "", Remove}, {"cookie", "", Remove}, {"x-a", "", Remove}})}, nil, ""},
		"a backend":                {200, http.Header{backendHeader: {"blue"}, subjectHeader: {"alice"}}, "", Answer{Request: own, Backend: "blue", Subject: "alice"}, nil, ""},
		"two backends":             {200, http.Header{backendHeader: {"blue", "green"}}, "", Answer{}, unavailable, "2 values of x-culvert-backend"},
		"an empty backend":         {200, http.Header{backendHeader: {""}}, "", Answer{}, unavailable, "a x-culvert-backend that is empty"},
		"a long backend":           {200, http.Header{backendHeader: {strings.Repeat("a", 129)}}, "", Answer{}, unavailable, "over the limit of 128"},
		"the token as a subject":   {200, http.Header{subjectHeader: {"abcdefghijkl"}}, "", Answer{}, unavailable, "repeats the call's credential"},
		"removes a reserved name":  {200, http.Header{removeHeader: {"x-a, host"}}, "", Answer{}, unavailable, `"host", which is reserved`},
		"removes nothing":          {200, http.Header{removeHeader: {""}}, "", Answer{}, unavailable, "can't name metadata"},
		"UTF-8 in a listed header": {200, http.Header{"X-User": {"caf\u00e9"}}, "", Answer{}, unavailable, "has other bytes"},
		"not base64":               {200, http.Header{"X-Sig-Bin": {"!"}}, "", Answer{}, unavailable, "isn't base64"},
		"too large":                {200, http.Header{"X-User": {strings.Repeat("a", maxEditBytes)}}, "", Answer{}, unavailable, "more than 16384 bytes"},
		"too many":                 {200, http.Header{"X-User": slices.Repeat([]string{"a"}, 65)}, "", Answer{}, unavailable, "more than 64 changes"},
		"401":                      {401, nil, "", Answer{}, unauthentic, "the status 401"},
		"403":                      {403, nil, "", Answer{}, denied, "the status 403"},
		"403 with a text":          {403, http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, "not on\nSundays\n", Answer{}, refusal(Denied, codes.PermissionDenied, "not on Sundays", nil), "the status 403: not on Sundays"},
		"403 with a page":          {403, http.Header{"Content-Type": {"text/html"}}, "<html>\n<b>no</b>", Answer{}, denied, "the status 403: <html> <b>no</b>"},
		"403 with an object":       {403, http.Header{"Content-Type": {"application/json"}}, `{"why": "closed"}`, Answer{}, denied, `the status 403: {"why": "closed"}`},
		"403 with a packed text":   {403, http.Header{"Content-Type": {"text/plain"}, "Content-Encoding": {"gzip"}}, "packed", Answer{}, denied, "the status 403"},
		"403 with bytes":           {403, http.Header{"Content-Type": {"text/plain"}}, "\xff\x00", Answer{}, denied, "403"},
		"403 with a long text":     {403, http.Header{"Content-Type": {"text/plain"}}, strings.Repeat("a", 1<<20), Answer{}, refusal(Denied, codes.PermissionDenied, strings.Repeat("a", 1023), nil), "403"},
		"401 with the token":       {401, http.Header{"Content-Type": {"text/plain"}}, "abcdefghijkl is bad", Answer{}, unauthentic, "401"},
		"401 with a challenge":     {401, http.Header{"Www-Authenticate": {`Bearer realm="shop"`}}, "", Answer{}, refusal(Unauthenticated, codes.Unauthenticated, `Bearer realm="shop"`, metadata.MD{"www-authenticate": {`Bearer realm="shop"`}}), "401"},
		"401 with a description": {
			401,
			http.Header{"Www-Authenticate": {`Bearer error="invalid_token", Error_Description="it expired"`, "Basic"}},
			"",
			Answer{},
			refusal(Unauthenticated, codes.Unauthenticated, "it expired", metadata.MD{"www-authenticate": {`Bearer error="invalid_token", Error_Description="it expired"`, "Basic"}}), "401",
		},
		"401 with half a description": {401, http.Header{"Www-Authenticate": {`Bearer error_description="it`}}, "", Answer{}, refusal(Unauthenticated, codes.Unauthenticated, `Bearer error_description="it`, metadata.MD{"www-authenticate": {`Bearer error_description="it`}}), "401"},
		"a challenge with the token":  {401, http.Header{"Www-Authenticate": {`Bearer realm="abcdefghijkl"`}}, "", Answer{}, unauthentic, "401"},
		"a redirect":                  {302, http.Header{"Location": {"/elsewhere"}}, "", Answer{}, redirected, "the redirect 302, which isn't followed"},
		"not modified":                {304, nil, "", Answer{}, redirected, "304"},
		"400":                         {400, nil, "", Answer{}, unavailable, "the status 400, and only 2xx, 401 and 403 are answers"},
		"404":                         {404, nil, "", Answer{}, unavailable, "404"},
		"407":                         {407, nil, "", Answer{}, unavailable, "407"},
		"429":                         {429, nil, "", Answer{}, unavailable, "429"},
		"500":                         {500, nil, "database\ndown", Answer{}, unavailable, "500, and only 2xx, 401 and 403 are answers: database down"},
		"599":                         {599, nil, "", Answer{}, unavailable, "599"},
		"999":                         {999, nil, "", Answer{}, unavailable, "999"},
	} {
		o := patient()
		o.FailOpen = true // which covers none of these
		checker := httpChecker(t, HTTP{AnswerNames: []string{"X-User", "x-sig-bin"}}, o, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/auth" {
				t.Errorf("%s: asked for %s", name, r.URL)
			}
			for name, values := range c.header {
				w.Header()[name] = values
			}
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body) // the client may have gone
		})
		got, err := checker.Check(t.Context(), aCall())
		if c.refused == nil {
			if err != nil || !same(got, c.want) {
				t.Errorf("%s: got %+v, %v; want %+v", name, got, err, c.want)
			}
			continue
		}
		r := asRefusal(t, err)
		if !strings.Contains(r.Error(), c.cause) || strings.Contains(r.Error(), "abcdefghijkl") || strings.Contains(r.Error(), "packed") || len(r.Error()) > 700 {
			t.Errorf("%s: got the cause %q, want %q in it", name, r.Error(), c.cause)
		}
		if !sameRefusal(r, c.refused) {
			t.Errorf("%s: got %+v, want %+v", name, r, c.refused)
		}
	}
}

// TestGatewayStatusesAreSilence: a proxy in front of the service says that nobody is there.
func TestGatewayStatusesAreSilence(t *testing.T) {
	for _, code := range []int{502, 503, 504} {
		o := patient()
		o.FailOpen = true
		c := httpChecker(t, HTTP{}, o, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
		if answer, err := c.Check(t.Context(), aCall()); err != nil || answer.Open == nil {
			t.Errorf("%d: got %+v, %v", code, answer, err)
		}
	}
}

// TestConnectionsAreUsedAgain: also after refusals with a body, and across cancelled calls.
func TestConnectionsAreUsedAgain(t *testing.T) {
	var conns atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "a text\n")
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	c := closed(t)(NewHTTP(HTTP{URL: server.URL}, patient()))
	for range 20 {
		if _, err := c.Check(t.Context(), aCall()); asRefusal(t, err).Kind != Denied {
			t.Error(err)
		}
	}
	if got := conns.Load(); got != 1 {
		t.Errorf("%d connections for 20 questions", got)
	}
}

// TestIdleConnectionThatCloses: the service may close an idle connection at any moment, and
// culvert asks again by another one.
func TestIdleConnectionThatCloses(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	c := closed(t)(NewHTTP(HTTP{URL: server.URL}, patient()))
	for range 20 {
		if _, err := c.Check(t.Context(), aCall()); err != nil {
			t.Fatal(err)
		}
		server.CloseClientConnections()
	}
}

func TestHTTPServiceWithAnOwnCA(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			t.Errorf("asked by %s", r.Proto)
		}
	}))
	server.Config.ErrorLog = discardLog
	t.Cleanup(server.Close)
	own := x509.NewCertPool()
	own.AddCert(server.Certificate())
	c := closed(t)(NewHTTP(HTTP{URL: server.URL, TLS: &tls.Config{RootCAs: own, MinVersion: tls.VersionTLS12}}, patient()))
	if _, err := c.Check(t.Context(), aCall()); err != nil {
		t.Error(err)
	}
	c = closed(t)(NewHTTP(HTTP{URL: server.URL}, patient()))
	if _, err := c.Check(t.Context(), aCall()); !strings.Contains(asRefusal(t, err).Error(), "certificate") {
		t.Errorf("without the CA: got %v", err)
	}
}

func TestHTTPServicesThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		http  HTTP
		names []string
		want  string
	}{
		"no URL":                    {HTTP{}, nil, "want http://"},
		"no scheme":                 {HTTP{URL: "auth.example/check"}, nil, "want http://"},
		"another scheme":            {HTTP{URL: "ftp://auth.example"}, nil, "want http://"},
		"no host":                   {HTTP{URL: "http:///auth"}, nil, "want http://"},
		"not a URL":                 {HTTP{URL: "http://user:secret@[::1"}, nil, "can't be parsed"},
		"a password":                {HTTP{URL: "http://user:secret@auth.example"}, nil, "leave it out"},
		"a fragment":                {HTTP{URL: "http://auth.example/#a"}, nil, "leave it out"},
		"forwarding from clients":   {HTTP{URL: "http://auth.example"}, []string{"x-forwarded-user"}, "take it off"},
		"an imitation":              {HTTP{URL: "http://auth.example"}, []string{"x_forwarded_for"}, "take it off"},
		"host":                      {HTTP{URL: "http://auth.example"}, []string{"host"}, "take it off"},
		"hop by hop":                {HTTP{URL: "http://auth.example"}, []string{"transfer-encoding"}, "take it off"},
		"the call's id":             {HTTP{URL: "http://auth.example"}, []string{"x-request-id"}, "take it off"},
		"a reserved answer header":  {HTTP{URL: "http://auth.example", AnswerNames: []string{"Grpc-Timeout"}}, nil, "take it off"},
		"an impossible header name": {HTTP{URL: "http://auth.example", AnswerNames: []string{"a b"}}, nil, "can't name metadata"},
	} {
		o := patient()
		o.Names = c.names
		checker, err := NewHTTP(c.http, o)
		if err == nil {
			checker.Close()
			t.Errorf("%s: accepted", name)
		} else if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %q, want %q in it", name, err, c.want)
		}
	}
}

// TestOwnNamesAreNeverTheClients: what only the service may set is removed from the call if
// the service leaves it out, and also if nobody judged the call.
func TestOwnNamesAreNeverTheClients(t *testing.T) {
	o := patient()
	o.FailOpen, o.Own = true, []string{"x-role"}
	var code int
	forward := httpChecker(t, HTTP{AnswerNames: []string{"x-user"}}, o, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	o.Own = append(o.Own, "x-user")
	envoy := grpcChecker(t, GRPC{}, o, func(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
		if code == http.StatusOK {
			return &authv3.CheckResponse{}, nil
		}
		return nil, status.Error(codes.Unavailable, "gone")
	})
	for _, code = range []int{http.StatusOK, http.StatusServiceUnavailable} {
		for _, c := range []*Checker{forward, envoy} {
			r := aCall()
			r.Metadata["x-user"], r.Metadata["x-role"] = []string{"root"}, []string{"admin"}
			answer, err := c.Check(t.Context(), r)
			if err != nil || (answer.Open != nil) != (code != http.StatusOK) {
				t.Fatalf("%d: got %+v, %v", code, answer, err)
			}
			if answer.Request.Apply(r.Metadata); r.Metadata["x-user"] != nil || r.Metadata["x-role"] != nil || r.Metadata["x-a"] == nil {
				t.Errorf("%d: got %q", code, r.Metadata)
			}
		}
	}
}
