package auth

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// A judge is an authorization service of both forms. It knows "Bearer secret-NAME" and the
// cookie "sid=secret-NAME"; mallory is known, and may do nothing.
type judge struct {
	authv3.UnimplementedAuthorizationServer
	mu   sync.Mutex
	seen []map[string]string
}

// name returns whose the credentials are, "" for nobody's.
func (j *judge) name(header map[string]string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seen = append(j.seen, header)
	if name, is := strings.CutPrefix(header["authorization"], "Bearer secret-"); is {
		return name
	}
	name, _ := strings.CutPrefix(header["cookie"], "sid=secret-")
	return name
}

// asked returns what the service was asked since the last time.
func (j *judge) asked() []map[string]string {
	j.mu.Lock()
	defer j.mu.Unlock()
	seen := j.seen
	j.seen = nil
	return seen
}

func set(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD}
}

// basic is which credential a judge wants.
const basic = `Basic realm="shop"`

// Check implements the service. Nobody may call methods of Admin.
func (j *judge) Check(_ context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	http := r.GetAttributes().GetRequest().GetHttp()
	name := j.name(http.GetHeaders())
	if strings.HasPrefix(http.GetPath(), "/shop.v1.Admin/") {
		name = "mallory"
	}
	switch name {
	case "":
		return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: int32(codes.Unauthenticated)}, HttpResponse: &authv3.CheckResponse_DeniedResponse{
			DeniedResponse: &authv3.DeniedHttpResponse{
				Status: &typev3.HttpStatus{Code: 401}, Body: "log in first", Headers: []*corev3.HeaderValueOption{set("WWW-Authenticate", basic)},
			},
		}}, nil
	case "mallory":
		return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: int32(codes.FailedPrecondition), Message: "not you"}}, nil
	default:
		dynamic, err := structpb.NewStruct(map[string]any{"culvert": map[string]any{"backend": "blue", "subject": name}})
		return &authv3.CheckResponse{DynamicMetadata: dynamic, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: []*corev3.HeaderValueOption{set("x-user", name)}, HeadersToRemove: []string{"authorization"},
			ResponseHeadersToAdd: []*corev3.HeaderValueOption{set("x-judged", "yes")},
		}}}, err
	}
}

func (j *judge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch name := j.name(map[string]string{"authorization": r.Header.Get("Authorization"), "cookie": r.Header.Get("Cookie"), "x-user": r.Header.Get("X-User")}); name {
	case "":
		w.Header().Set("WWW-Authenticate", basic)
		http.Error(w, "log in first", http.StatusUnauthorized)
	case "mallory":
		http.Error(w, "not you", http.StatusForbidden)
	default:
		w.Header().Set("X-User", name)
		w.Header().Set("X-Culvert-Subject", name)
		w.Header().Set("X-Culvert-Backend", "blue")
	}
}

func (j *judge) serveGRPC(t testing.TB) *External {
	t.Helper()
	external := serveCheck(t, j)
	external.Own = []string{"x-user"}
	return external
}

// serveCheck runs a service of the gRPC form until the test's end.
func serveCheck(t testing.TB, service authv3.AuthorizationServer) *External {
	t.Helper()
	ln := parts.Listen(t, "127.0.0.1:0")
	s := grpc.NewServer()
	authv3.RegisterAuthorizationServer(s, service)
	parts.ServeGRPC(t, ln, s)
	return &External{Target: ln.Addr().String(), Timeout: 10 * time.Second}
}

func (j *judge) serveHTTP(t testing.TB) *External {
	t.Helper()
	s := httptest.NewServer(j)
	t.Cleanup(s.Close)
	return &External{URL: s.URL, Timeout: 10 * time.Second, AnswerNames: []string{"X-User"}}
}

// TestExternalAlone: a service that judges each call, in both forms.
func TestExternalAlone(t *testing.T) {
	var j judge
	byGRPC, byHTTP := j.serveGRPC(t), j.serveHTTP(t)
	for _, row := range []struct {
		form     string
		external *External
		all      []string
	}{{"gRPC", byGRPC, nil}, {"HTTP", byHTTP, nil}, {"gRPC", byGRPC, []string{WayExternal}}} {
		form := row.form
		a := newAuth(t, Config{External: row.external, AllOf: row.all, PublicMethods: []string{"shop.v1.Catalog/*"}})
		if got := a.Vouched(); !slices.Equal(got, []string{"x-user"}) {
			t.Errorf("%s: the vouched names are %q", form, got)
		}
		j.asked()
		forged := metadata.MD{"x-user": {"root"}}
		for name, row := range map[string]struct {
			call  aCall
			want  string
			asked bool
		}{
			"a token":                        {aCall{own: "Bearer secret-alice", md: forged}, "alice", true},
			"a token of the connection":      {aCall{conn: "Bearer secret-alice", md: forged}, "alice", true},
			"a token as subprotocol":         {aCall{bearer: "secret-alice", md: forged}, "alice", true},
			"a cookie":                       {aCall{ownCookie: "sid=secret-alice", md: forged}, "alice", true},
			"a cookie of the connection":     {aCall{cookie: "sid=secret-alice", md: forged}, "alice", true},
			"nothing":                        {aCall{md: forged}, unauthenticated, true},
			"nothing, public":                {aCall{method: "/shop.v1.Catalog/List", md: forged}, "nobody", false},
			"a bad token, public":            {aCall{method: "/shop.v1.Catalog/List", own: "Bearer bad"}, unauthenticated, true},
			"one who may nothing":            {aCall{own: "Bearer secret-mallory"}, denied, true},
			"another scheme":                 {aCall{own: "Basic YTpi"}, unauthenticated, true},
			"bad, over a good connection":    {aCall{own: "Bearer bad", conn: "Bearer secret-alice"}, unauthenticated, true},
			"good, over another connection":  {aCall{own: "Bearer secret-alice", conn: "Bearer secret-bob"}, "alice", true},
			"good, over somebody's who mays": {aCall{own: "Bearer secret-alice", conn: "Bearer secret-mallory"}, "alice", true},
		} {
			got, r := judged(t, a, row.call)
			asked := j.asked()
			if got != row.want || len(asked) > 0 != row.asked {
				t.Errorf("%s, %s: got %s, want %s; asked %d times", form, name, got, row.want, len(asked))
			}
			for _, header := range asked {
				if header["x-user"] != "" {
					t.Errorf("%s, %s: the service sees %q", form, name, header["x-user"])
				}
			}
			switch user := strings.Join(r.Metadata["x-user"], ","); {
			case got == "alice" && (user != "alice" || r.Backend != "blue" || r.Metadata["x-culvert-kind"][0] != "external"):
				t.Errorf("%s, %s: the backend %q gets %v", form, name, r.Backend, r.Metadata)
			case got == "nobody" && (user != "" || r.Backend != ""):
				t.Errorf("%s, %s: the backend %q learns of %q", form, name, r.Backend, user)
			}
			if form == "gRPC" && got == "alice" {
				header := metadata.MD{"x-judged": {"no"}}
				r.EditHeader(header)
				if len(r.Metadata["authorization"]) > 0 || !slices.Equal(header["x-judged"], []string{"yes"}) {
					t.Errorf("%s: the backend gets %v, the client %v", name, r.Metadata, header)
				}
			}
		}
		f := faultOfCall(t, a, aCall{own: "Bearer secret-mallory"})
		if want := map[string]codes.Code{"gRPC": codes.FailedPrecondition, "HTTP": codes.PermissionDenied}[form]; f.StatusCode() != want || f.Text != "not you" || f.Key != report.KeyAuthExternal {
			t.Errorf("%s: refused with %v %q", form, f.StatusCode(), f.Text)
		}
		if f = faultOfCall(t, a, aCall{}); f.StatusCode() != codes.Unauthenticated || f.Text != "log in first" || !slices.Equal(f.Header, []string{"www-authenticate", basic}) {
			t.Errorf("%s: refused with %v %q %q", form, f.StatusCode(), f.Text, f.Header)
		}
	}
}

// TestExternalIsAskedLast, and only if the verdict depends on it.
func TestExternalIsAskedLast(t *testing.T) {
	var j judge
	external := j.serveGRPC(t)
	keys, key := keysOf(t, time.Time{}, "ci")
	cert := &report.ClientNames{CommonName: "agent"}
	const public = "/shop.v1.Catalog/List"
	token, expired := "Bearer "+staffToken(nil), "Bearer "+staffToken(claims{"exp": 1})
	any, all := []string{"staff", WayAPIKeys, WayCertificates, WayExternal}, []string{WayCertificates, WayExternal}
	for name, row := range map[string]struct {
		all, any []string
		call     aCall
		want     string
		asked    bool
	}{
		"any: a token":                           {nil, any, aCall{own: token}, "alice", false},
		"any: an API key":                        {nil, any, aCall{own: "Bearer " + key["ci"]}, "ci", false},
		"any: a certificate":                     {nil, any, aCall{client: cert}, "agent", false},
		"any: an opaque token":                   {nil, any, aCall{own: "Bearer secret-alice"}, "alice", true},
		"any: an opaque token, and more":         {nil, any, aCall{own: "Bearer secret-alice", client: cert}, "alice", true},
		"any: another issuer's":                  {nil, any, aCall{own: "Bearer " + staffToken(claims{"iss": "https://other.example"})}, unauthenticated, true},
		"any: a bad one, and more":               {nil, any, aCall{own: "Bearer bad", client: cert}, unauthenticated, true},
		"any: expired":                           {nil, any, aCall{own: expired, client: cert}, unauthenticated, false},
		"any: nothing":                           {nil, any, aCall{}, unauthenticated, true},
		"any: nothing, public":                   {nil, any, aCall{method: public}, "nobody", false},
		"any: a token, the upgrade's is opaque":  {nil, any, aCall{own: token, conn: "Bearer bad"}, "alice", false},
		"any: an API key, the upgrade's is bad":  {nil, any, aCall{key: key["ci"], conn: "Bearer bad"}, unauthenticated, true},
		"any: an API key, the upgrade's is good": {nil, any, aCall{key: key["ci"], conn: "Bearer secret-alice"}, "ci", true},
		"any: opaque, beside a bad API key":      {nil, any, aCall{own: "Bearer secret-alice", key: strings.Repeat("k", 40)}, unauthenticated, false},
		"any: a damaged API key":                 {nil, any, aCall{own: "Bearer " + key["ci"][:59]}, unauthenticated, false},
		"any: a cookie":                          {nil, any, aCall{ownCookie: "sid=secret-alice"}, "alice", true},
		"all: both":                              {all, []string{"staff", WayAPIKeys}, aCall{client: cert, own: token}, unauthenticated, true},
		"all: both, with a session":              {all, []string{"staff", WayAPIKeys}, aCall{client: cert, own: token, ownCookie: "sid=secret-x"}, "agent", true},
		"all: an API key and a session":          {all, []string{"staff", WayAPIKeys}, aCall{client: cert, key: key["ci"], own: "Bearer secret-alice"}, "agent", true},
		"all: no certificate":                    {all, []string{"staff", WayAPIKeys}, aCall{key: key["ci"]}, unauthenticated, false},
		"all: nothing, public":                   {all, []string{"staff", WayAPIKeys}, aCall{method: public}, "nobody", false},
		"all: one missing, public":               {all, []string{"staff", WayAPIKeys}, aCall{method: public, client: cert}, "nobody", false},
		"all: any is missing":                    {[]string{WayExternal}, []string{"staff", WayAPIKeys, WayCertificates}, aCall{}, unauthenticated, false},
		"all: named by the service":              {[]string{WayExternal}, []string{"staff", WayAPIKeys, WayCertificates}, aCall{client: cert, own: "Bearer secret-alice"}, "alice", true},
		"any beside all: all are missing":        {[]string{WayCertificates}, []string{"staff", WayAPIKeys, WayExternal}, aCall{ownCookie: "sid=secret-alice"}, unauthenticated, false},
		"any beside all: public":                 {[]string{WayCertificates}, []string{"staff", WayAPIKeys, WayExternal}, aCall{client: cert, method: public}, "nobody", false},
		"any beside all":                         {[]string{WayCertificates}, []string{"staff", WayAPIKeys, WayExternal}, aCall{client: cert, ownCookie: "sid=secret-alice"}, "agent", true},
	} {
		a := newAuth(t, Config{Issuers: []Issuer{staff(t)}, APIKeys: keys, Certificates: true, External: external, AllOf: row.all, AnyOf: row.any, PublicMethods: []string{"shop.v1.Catalog/*"}})
		got, r := judged(t, a, row.call)
		if asked := len(j.asked()) > 0; got != row.want || asked != row.asked {
			t.Errorf("%s: got %s, want %s; asked: %v", name, got, row.want, asked)
		}
		if !row.asked && len(r.Metadata["x-user"]) > 0 {
			t.Errorf("%s: the backend gets %v", name, r.Metadata)
		}
	}
}

// TestExternalSharesAName with an issuer: backends get it of each caller, by whichever way it is known,
// and never from the client.
func TestExternalSharesAName(t *testing.T) {
	var j judge
	issuer := staff(t)
	issuer.Metadata = []ClaimMetadata{{"sub", "x-user"}}
	for form, external := range map[string]*External{"gRPC": j.serveGRPC(t), "HTTP": j.serveHTTP(t)} {
		a := newAuth(t, Config{Issuers: []Issuer{issuer}, External: external, PublicMethods: []string{"shop.v1.Catalog/*"}})
		for token, want := range map[string][]string{staffToken(nil): {"alice"}, staffToken(claims{"sub": "carol"}): {"carol"}, "secret-bob": {"bob"}, "": nil} {
			call, who := aCall{method: "/shop.v1.Catalog/List", md: metadata.MD{"x-user": {"root"}}}, "nobody"
			if token != "" {
				call.own, who = "Bearer "+token, want[0]
			}
			if r := wantJudged(t, a, call, who); !slices.Equal(r.Metadata["x-user"], want) {
				t.Errorf("%s, %s: the backend gets %q, want %q", form, who, r.Metadata["x-user"], want)
			}
		}
	}
}

// An editor is an authorization service that permits each call, with these changes.
type editor struct {
	authv3.UnimplementedAuthorizationServer
	edits *authv3.OkHttpResponse
}

// Check implements the service.
func (e *editor) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: e.edits}}, nil
}

// ServeHTTP is the other form, which has removals alone.
func (e *editor) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header()["X-Envoy-Auth-Headers-To-Remove"] = e.edits.GetHeadersToRemove()
}

// TestExternalCantHaveReservedNames of the bridge's table, in any spelling and in either direction: the
// call is refused.
func TestExternalCantHaveReservedNames(t *testing.T) {
	e := new(editor)
	byGRPC, byHTTP := serveCheck(t, e), &External{Timeout: 10 * time.Second}
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	byHTTP.URL = s.URL
	forms := map[*External]*Authenticator{byGRPC: newAuth(t, Config{External: byGRPC}), byHTTP: newAuth(t, Config{External: byHTTP})}
	answers := func(edits *authv3.OkHttpResponse, of *External, want string) {
		t.Helper()
		e.edits = edits
		got, r := judged(t, forms[of], aCall{own: "Bearer x"})
		if got != want || want == unavailable && len(r.Metadata["x-ok"]) > 0 {
			t.Errorf("%v: got %s with %v, want %s", edits, got, r.Metadata, want)
		}
	}
	ok := []*corev3.HeaderValueOption{set("x-ok", "1")}
	answers(&authv3.OkHttpResponse{Headers: ok, HeadersToRemove: []string{"x-b"}, ResponseHeadersToAdd: ok}, byGRPC, "nobody")
	answers(&authv3.OkHttpResponse{HeadersToRemove: []string{"x-b"}}, byHTTP, "nobody")
	for _, name := range []string{
		":path", ":authority", "host", "grpc-timeout", "Grpc-Encoding", "grpc-anything", "connection", "Keep-Alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection",
		"content-type", "content-length", "x-culvert-subject", "X_Culvert_Subject", "x-culvert-anything", "x-forwarded-for", "X-Forwarded-Proto", "x_forwarded_host", "forwarded", "via",
	} {
		answers(&authv3.OkHttpResponse{Headers: append(ok, set(name, "1"))}, byGRPC, unavailable)
		answers(&authv3.OkHttpResponse{Headers: ok, HeadersToRemove: []string{name}}, byGRPC, unavailable)
		answers(&authv3.OkHttpResponse{HeadersToRemove: []string{name}}, byHTTP, unavailable)
		if _, err := New(Config{External: &External{URL: s.URL, AnswerNames: []string{name}}}, nil); err == nil {
			t.Errorf("a forward-auth's answer may set %s", name)
		}
	}
	for _, name := range []string{":status", "grpc-status", "Grpc-Message", "connection", "transfer-encoding", "upgrade", "content-type", "content-length", "trailer"} {
		answers(&authv3.OkHttpResponse{Headers: ok, ResponseHeadersToAdd: []*corev3.HeaderValueOption{set(name, "0")}}, byGRPC, unavailable)
	}
}

// A decider is an authorization service that gives one answer, and tells of the principals.
type decider struct {
	authv3.UnimplementedAuthorizationServer
	answer     *authv3.CheckResponse
	principals chan string // has room for one
}

// Check implements the service.
func (d *decider) Check(_ context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	d.principals <- r.GetAttributes().GetSource().GetPrincipal()
	return d.answer, nil
}

// TestExternalHasHeadersForTheClient of a refusal, as the guide says. A set-cookie isn't one of them,
// nor are bytes.
func TestExternalHasHeadersForTheClient(t *testing.T) {
	for code, challenge := range map[codes.Code]string{codes.PermissionDenied: `Bearer error="insufficient_scope"`, codes.Unauthenticated: "Bearer"} {
		d := &decider{principals: make(chan string, 1), answer: &authv3.CheckResponse{
			Status: &rpcstatus.Status{Code: int32(code)},
			HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{Headers: []*corev3.HeaderValueOption{
				set("X-Judged-By", "policy 7"), set("WWW-Authenticate", challenge), set("www-authenticate", "Basic"), set("set-cookie", "a=b"), set("x-sig-bin", "AAE"),
			}}},
		}}
		f := faultOfCall(t, newAuth(t, Config{External: serveCheck(t, d)}), aCall{own: "Bearer x"})
		got := make(map[string]string)
		for pair := range slices.Chunk(f.Header, 2) {
			got[pair[0]] = pair[1]
		}
		if want := map[string]string{"www-authenticate": challenge + ", Basic", "x-judged-by": "policy 7"}; f.StatusCode() != code || !maps.Equal(got, want) {
			t.Errorf("refused with %v and %q, want %v and %q", f.StatusCode(), f.Header, code, want)
		}
	}
}

// TestExternalCantTakeANameForASPIFFEID: the service gets no name that only looks like one.
func TestExternalCantTakeANameForASPIFFEID(t *testing.T) {
	const id = "spiffe://shop.example/admin"
	d := &decider{principals: make(chan string, 1), answer: new(authv3.CheckResponse)}
	a := newAuth(t, Config{External: serveCheck(t, d)})
	for want, client := range map[string]*report.ClientNames{
		"":              {CommonName: id},
		"agent":         {CommonName: "agent", DNS: []string{id}},
		"agent.example": {CommonName: id, DNS: []string{id, "agent.example"}},
		id:              {SPIFFE: id, CommonName: "agent"},
	} {
		judged(t, a, aCall{client: client})
		if got := <-d.principals; got != want {
			t.Errorf("%+v: the service is told of %q, want %q", client, got, want)
		}
	}
}

// TestExternalIsAway: calls fail closed, or open if that is wanted.
func TestExternalIsAway(t *testing.T) {
	away := &External{Target: "127.0.0.1:1", Timeout: 50 * time.Millisecond}
	a := newAuth(t, Config{External: away})
	f := faultOfCall(t, a, aCall{own: "Bearer x"})
	if f.Reason != report.ReasonAuthUnavailable || f.StatusCode() != codes.Unavailable || f.Sent != report.SentNo || strings.Contains(f.Text, "127.0.0.1") || f.Cause == nil {
		t.Errorf("got %+v", f)
	}
	open := *away
	open.FailOpen, open.Own = true, []string{"x-user"}
	a = newAuth(t, Config{External: &open})
	r := wantJudged(t, a, aCall{own: "Bearer x", md: metadata.MD{"x-user": {"root"}, "x-culvert-subject": {"root"}}}, "nobody")
	if len(r.Metadata["x-user"])+len(r.Metadata["x-culvert-kind"]) > 0 || a.State().External.Open != 1 {
		t.Errorf("the backend gets %v; the state is %+v", r.Metadata, a.State().External)
	}
}

// TestExternalMayReplaceACredential, as proxies for logins do: its name isn't taken off what
// clients send before the service has seen it.
func TestExternalMayReplaceACredential(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer opaque" || r.Header.Get("X-Request-Id") != "c0ffee" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Authorization", "Bearer for-the-backend")
	}))
	defer s.Close()
	for _, strip := range []bool{false, true} {
		a := newAuth(t, Config{External: &External{URL: s.URL, AnswerNames: []string{"Authorization"}, Timeout: 10 * time.Second}, Strip: strip})
		r := wantJudged(t, a, aCall{own: "Bearer opaque"}, "nobody")
		if got := r.Metadata["authorization"]; !slices.Equal(got, []string{"Bearer for-the-backend"}) {
			t.Errorf("the backend gets %q", got)
		}
		if got := a.Vouched(); len(got) > 0 {
			t.Errorf("clients may not send %q", got)
		}
		// It's the service's alone, also if the service isn't asked.
		a = newAuth(t, Config{Issuers: []Issuer{staff(t)}, External: &External{URL: s.URL, AnswerNames: []string{"Authorization"}}})
		r = wantJudged(t, a, aCall{own: "Bearer " + staffToken(nil)}, "alice")
		if got := r.Metadata["authorization"]; len(got) > 0 {
			t.Errorf("the backend gets %q", got)
		}
	}
}

// TestWhatAServiceWants reaches clients of HTTP, and no other field of its answer does.
func TestWhatAServiceWants(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", basic)
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("X-Inside", "yes")
		http.Error(w, "log in first", http.StatusUnauthorized)
	}))
	t.Cleanup(s.Close)
	a := newAuth(t, Config{External: &External{URL: s.URL, Timeout: 10 * time.Second}})
	_, address := startBridge(t, configOf(a, parts.StartBackend(t, subjects)))
	res, body := post(t, address, "application/proto", nil, []string{"Connect-Protocol-Version", "1"})
	if res.StatusCode != http.StatusUnauthorized || res.Header.Get("WWW-Authenticate") != basic || res.Header["Set-Cookie"] != nil || res.Header["X-Inside"] != nil {
		t.Errorf("the client gets %d %v %s", res.StatusCode, res.Header, body)
	}
}
