package headers

import (
	"errors"
	"maps"
	"net/http"
	"net/textproto"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// neverUp and neverDown are written out once more, beside the tables, so that
// a row that goes missing there is missed here. Names that end in * stand for
// any that begin so.
var (
	neverUp = []string{
		"connection", "keep-alive", "proxy-*", "upgrade", "te", "trailer", "transfer-encoding", "host", "content-length",
		"content-type", "content-encoding", "accept", "accept-encoding", "accept-language", "origin", "referer", "sec-*",
		"access-control-*", "x-grpc-web", "grpc-*", "connect-*", "lb-token", "user-agent", "culvert-*", "x-culvert-*",
	}
	onlyVouched = []string{
		"x-forwarded-*", "forwarded", "x-real-ip", "x-forwarded-client-cert", "x-auth-request-*", "x-ssl-client-*", "x-amzn-mtls-*", "x-goog-iap-*", "x-ms-client-principal*", "via",
	}
	neverDown = []string{
		"connection", "keep-alive", "proxy-*", "upgrade", "te", "trailer", "transfer-encoding", "content-*", "date",
		"access-control-*", "alt-svc", "location", "refresh", "clear-site-data", "strict-transport-security", "culvert-*", "x-culvert-*",
	}
)

func reasonOf(err error) report.Reason {
	var f *report.Fault
	if !errors.As(err, &f) {
		return ""
	}
	return f.Reason
}

func named(name string, list []string) bool {
	return slices.ContainsFunc(list, func(n string) bool {
		prefix, open := strings.CutSuffix(n, "*")
		return name == n || open && strings.HasPrefix(name, prefix)
	})
}

// imitations are names that a backend may take for one of the list, since they
// have underscores or dots for hyphens.
func imitations(list []string) (names []string) {
	for _, n := range examples(list) {
		if first, rest, ok := strings.Cut(n, "-"); ok {
			names = append(names, first+"_"+rest, strings.ReplaceAll(n, "-", "_"), first+"."+rest, strings.ReplaceAll(n, "-", "."))
		}
	}
	return names
}

// examples makes a name of each entry.
func examples(list []string) (names []string) {
	for _, n := range list {
		names = append(names, strings.Replace(n, "*", "example", 1))
	}
	return names
}

func TestRequestMetadata(t *testing.T) {
	const limit = 64 << 10
	header := func(lines ...string) http.Header {
		h := http.Header{}
		for _, line := range lines {
			name, value, _ := strings.Cut(line, ": ")
			h.Add(name, value)
		}
		return h
	}
	for _, c := range []struct {
		name             string
		in               http.Header
		trusted, cookies bool
		want             metadata.MD
	}{
		{"nothing", nil, false, false, metadata.MD{}},
		{
			"own names, in lower case and in order", header("X-A: 1", "x-a: 2", "authorization: Bearer t", "X-User-Agent: grpc-web"),
			false, false,
			metadata.MD{"x-a": {"1", "2"}, "authorization": {"Bearer t"}, "x-user-agent": {"grpc-web"}},
		},
		{"ASCII values aren't split", header("x-a: 1, 2"), false, false, metadata.MD{"x-a": {"1, 2"}}},
		{
			"binary values are split and decoded", header("x-b-bin: AAEC,/w", "x-b-bin:  AAEC , /w== "),
			false, false,
			metadata.MD{"x-b-bin": {"\x00\x01\x02", "\xff", "\x00\x01\x02", "\xff"}},
		},
		{"an empty value", header("x-a: "), false, false, metadata.MD{"x-a": {""}}},
		{"an empty binary value", header("x-b-bin: "), false, false, metadata.MD{"x-b-bin": {""}}},
		{"values that grpc-go would refuse", header("x-a: caf\u00e9", "x-a: plain", "x-c: a\tb"), false, false, metadata.MD{"x-a": {"plain"}}},
		{"names that grpc-go would refuse", header("x!a: 1", "x~b: 1"), false, false, metadata.MD{}},
		{"a cookie", header("Cookie: a=1"), false, false, metadata.MD{}},
		{"a cookie by key", header("Cookie: a=1", "Cookie: b=2"), false, true, metadata.MD{"cookie": {"a=1", "b=2"}}},
		{"names that Connection lists", header("Connection: keep-alive, X-Hop", "Connection: x-too", "x-hop: 1", "X-Too: 1", "x-stays: 1"), false, false, metadata.MD{"x-stays": {"1"}}},
		{
			"what only balancers say of certificates and users",
			header("x-amzn-mtls-clientcert-subject: CN=root", "x-ssl-client-verify: SUCCESS", "x-amzn-oidc-data: e30", "x-goog-iap-jwt-assertion: e30", "x-ms-client-principal: e30", "fastly-client-ip: 10.0.0.1"),
			false, false,
			metadata.MD{},
		},
		{"what only a trusted peer says", header("x-real-ip: 10.0.0.1", "Forwarded: for=1.2.3.4"), false, false, metadata.MD{}},
		{
			"what a trusted peer says", header("x-real-ip: 10.0.0.1", "Forwarded: for=1.2.3.4"),
			true, false,
			metadata.MD{"x-real-ip": {"10.0.0.1"}, "forwarded": {"for=1.2.3.4"}},
		},
		{"what nobody may say, of a trusted peer", header("grpc-status: 0", "Culvert-Identity: root", "x-request-id: 1"), true, true, metadata.MD{}},
	} {
		got, _, err := Request(c.in, c.trusted, c.cookies, report.SizeLimit{Bytes: limit, Key: report.KeyHeaderBytes}, nil, 0)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}

func TestRequestMetadataThatIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        report.Reason
	}{
		{"x-a", "1\r\nx-admin: yes", report.ReasonBadRequest},
		{"x-a", "1\nx-admin: yes", report.ReasonBadRequest},
		{"x-a", "1\x00", report.ReasonBadRequest},
		{"x-b-bin", "AAEC\r\n", report.ReasonBadRequest},
		{"x-b-bin", "not base64!", report.ReasonBadRequest},
		{"x-b-bin", "AAEC,!", report.ReasonBadRequest},
	} {
		h := http.Header{c.name: {c.value}}
		if md, _, err := Request(h, true, true, report.SizeLimit{Bytes: 64 << 10, Key: report.KeyHeaderBytes}, nil, 0); reasonOf(err) != c.want {
			t.Errorf("%s: %q: got %q, %v; want %v", c.name, c.value, md, err, c.want)
		} else if strings.Contains(err.Error(), c.value) {
			t.Errorf("%s: the error %q tells the value", c.name, err)
		}
		if md, _, err := Block(map[string][]string{c.name: {c.value}}, nil); reasonOf(err) != c.want {
			t.Errorf("%s: %q in a block: got %q, %v; want %v", c.name, c.value, md, err, c.want)
		}
	}
}

// TestRequestMetadataIsCountedAsHTTP2Does: name, value and 32, whether it
// crosses or not, since culvert holds it either way.
func TestRequestMetadataIsCountedAsHTTP2Does(t *testing.T) {
	h := http.Header{"X-A": {"12345", "12345"}, "Accept": {"*/*"}}
	const size = (3 + 5 + 32) + (3 + 5 + 32) + (6 + 3 + 32)
	if _, _, err := Request(h, false, false, report.SizeLimit{Bytes: size, Key: report.KeyHeaderBytes}, nil, 0); err != nil {
		t.Errorf("%d bytes with a limit of %d: %v", size, size, err)
	}
	_, _, err := Request(h, false, false, report.SizeLimit{Bytes: size - 1, Key: report.KeyHeaderBytes}, nil, 0)
	if reasonOf(err) != report.ReasonMetadataTooLarge || !strings.Contains(err.Error(), report.KeyHeaderBytes) {
		t.Errorf("%d bytes with a limit of %d: got %v, want %v that names %s", size, size-1, err, report.ReasonMetadataTooLarge, report.KeyHeaderBytes)
	}
}

func TestNamesThatNeverGoUp(t *testing.T) {
	h := http.Header{}
	for _, name := range examples(neverUp) {
		h.Set(name, "1")
	}
	md, _, err := Request(h, true, true, report.SizeLimit{Bytes: 64 << 10, Key: report.KeyHeaderBytes}, nil, 0)
	if err != nil || len(md) != 0 {
		t.Errorf("from a trusted peer %q, %v crosses; want nothing", md, err)
	}
	for _, name := range examples(onlyVouched) {
		h := http.Header{textproto.CanonicalMIMEHeaderKey(name): {"1"}}
		if md, _, err := Request(h, false, true, report.SizeLimit{Bytes: 64 << 10, Key: report.KeyHeaderBytes}, nil, 0); err != nil || len(md) != 0 {
			t.Errorf("%s from anybody: %q, %v crosses; want nothing", name, md, err)
		}
		if md, _, err := Block(map[string][]string{name: {"1"}}, nil); err != nil || len(md) != 0 {
			t.Errorf("%s from a WebSocket's message: %q, %v crosses; want nothing", name, md, err)
		}
		// culvert's own of these are set by vouch, over what is here.
		if md, _, err := Request(h, true, true, report.SizeLimit{Bytes: 64 << 10, Key: report.KeyHeaderBytes}, nil, 0); err != nil || len(md) != 1 {
			t.Errorf("%s from a trusted peer: %q, %v; want it to cross", name, md, err)
		}
	}
}

// TestNamesThatLookVouchedFor: what a backend may take for a name that only
// culvert and trusted proxies may say crosses from nobody. What merely looks like
// a name of HTTP's or gRPC's is an application's own.
func TestNamesThatLookVouchedFor(t *testing.T) {
	like := imitations(append(slices.Clone(onlyVouched), "culvert-identity", "x-culvert-identity", "x-forwarded-user-agent"))
	if !slices.Contains(like, "x_forwarded_client_cert") {
		t.Fatalf("%q", like)
	}
	for _, name := range append(like, "x_forwarded_for", "x.forwarded.for", "x.forwarded_for", "x_forwarded-for", "x-forwarded_for", "x-forwarded-client_cert") {
		h := http.Header{textproto.CanonicalMIMEHeaderKey(name): {"1"}}
		for _, trusted := range []bool{false, true} {
			if md, _, err := Request(h, trusted, true, report.SizeLimit{Bytes: 64 << 10, Key: report.KeyHeaderBytes}, nil, 0); err != nil || len(md) != 0 {
				t.Errorf("%s, trusted %v: %q, %v crosses; want nothing", name, trusted, md, err)
			}
		}
		if md, _, err := Block(map[string][]string{name: {"1"}}, nil); err != nil || len(md) != 0 {
			t.Errorf("%s from a WebSocket's message: %q, %v crosses; want nothing", name, md, err)
		}
		if Crosses(name) {
			t.Errorf("a preflight grants %s", name)
		}
	}
	own := map[string][]string{}
	for _, name := range []string{"x_a", "_", "user_agent", "content_type", "grpc_client", "connect_id", "sec_token", "x_request_id", "forwarded_by", "viaduct_id", "x_forward", "lb_token", "x.a", ".", "forwarded.by", "culvert", "x-culverts"} {
		own[name] = []string{"1"}
	}
	if md, _, err := Request(own, false, false, report.SizeLimit{Bytes: 64 << 10, Key: report.KeyHeaderBytes}, nil, 0); err != nil || len(md) != len(own) {
		t.Errorf("of %d own names %q crosses, %v", len(own), md, err)
	}
}

// TestOwnVouchedNamesAndWhatLooksLikeThem, whichever of the two the operator
// has named.
func TestOwnVouchedNamesAndWhatLooksLikeThem(t *testing.T) {
	v := NewVouched([]string{"X-Company-User", "x_team", "x_both", "x-both"})
	for _, c := range []struct {
		name              string
		trusted, anybodys bool
	}{
		{"x-company-user", true, false},
		{"x_company_user", false, false},
		{"x-company_user", false, false},
		{"x.company.user", false, false},
		{"x_team", true, false},
		{"x-team", false, false},
		{"x_both", true, false},
		{"x-both", true, false},
		{"x-company-users", true, true},
		{"x_a", true, true},
	} {
		for trusted, want := range map[bool]bool{true: c.trusted, false: c.anybodys} {
			md := metadata.MD{c.name: {"1"}, "x-a": {"1"}}
			v.Strike(md, trusted)
			if crosses := md[c.name] != nil; crosses != want || md["x-a"] == nil {
				t.Errorf("%s, trusted %v: %q is left, want it there: %v", c.name, trusted, md, want)
			}
		}
	}
}

// TestBlockMayNotSayWhatTheUpgradeSays: a WebSocket's first message adds
// application keys and nothing of the browser's or a proxy's.
func TestBlockMayNotSayWhatTheUpgradeSays(t *testing.T) {
	block := map[string][]string{"authorization": {"Bearer t"}, "x-a": {"1", "2"}, "x-b-bin": {"AAE=,/w"}, "cookie": {"a=1"}, ":path": {"/x"}}
	for _, name := range slices.Concat(examples(neverUp), examples(onlyVouched), imitations(onlyVouched)) {
		block[name] = []string{"1"}
	}
	got, _, err := Block(block, nil)
	want := metadata.MD{"authorization": {"Bearer t"}, "x-a": {"1", "2"}, "x-b-bin": {"\x00\x01", "\xff"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestResponseMetadata(t *testing.T) {
	in := metadata.MD{"x-a": {"1", "2"}, "x-b-bin": {"\x00"}, "set-cookie": {"a=1"}, "grpc-status-details-bin": {"\x08\x05"}}
	for _, name := range examples(neverDown) {
		in[name] = []string{"1"}
	}
	want := metadata.MD{"x-a": {"1", "2"}, "x-b-bin": {"\x00"}, "grpc-status-details-bin": {"\x08\x05"}}
	if got := Response(in.Copy(), false); !reflect.DeepEqual(got, want) {
		t.Errorf("without cookies got %q, want %q", got, want)
	}
	want["set-cookie"] = []string{"a=1"}
	if got := Response(in, true); !reflect.DeepEqual(got, want) {
		t.Errorf("with cookies got %q, want %q", got, want)
	}
}

// TestRulesAreWellFormed holds the tables to words that compile knows: a
// misspelt one would let the name pass.
func TestRulesAreWellFormed(t *testing.T) {
	for title, table := range map[string][]Row{"request": RequestRows(), "response": ResponseRows()} {
		seen := make(map[string]bool)
		for _, row := range table {
			if !slices.Contains([]string{"drop", "vouched", "cookie"}, row.Rule) || row.Why == "" {
				t.Errorf("%s rule %+v: unknown word or no reason", title, row)
			}
			if seen[row.Name] || row.Name != strings.ToLower(row.Name) || strings.Contains(strings.TrimSuffix(row.Name, "*"), "*") {
				t.Errorf("%s rule %+v: twice, or not a lower-case name with a * at its end at most", title, row)
			}
			seen[row.Name] = true
		}
	}
	if got := OfRequest("x-forwarded-user-agent"); got != Drop {
		t.Errorf("an exact rule is %v, want it to win over its prefix's", got)
	}
}

func TestTablesAreCopies(t *testing.T) {
	RequestRows()[0].Rule, ResponseRows()[0].Rule = "pass", "pass"
	if RequestRows()[0].Rule == "pass" || ResponseRows()[0].Rule == "pass" {
		t.Error("a caller can change a table")
	}
}

func FuzzRequestMetadata(f *testing.F) {
	f.Add("X-A", "1", "", false, false)
	f.Add("Cookie", "a=1", "", true, true)
	f.Add("X-Forwarded-For", "1.2.3.4", "", false, false)
	f.Add("X-Forwarded-For", "1.2.3.4", "", true, false)
	f.Add("X_forwarded-For", "1.2.3.4", "", true, false)
	f.Add("X-B-Bin", "AAEC, /w==", "", false, false)
	f.Add("X-B-Bin", "A\r\nB", "", false, false)
	f.Add("X-Hop", "1", "close, x-hop", false, false)
	f.Add("Grpc-Status", "0", "", true, true)
	f.Add("X-A", "1\r\nX-Admin: yes", "", true, true)
	f.Add("X-A", "1\x00", "", true, true)
	f.Add("X-A", "caf\xc3\xa9\t", "", false, false)
	f.Fuzz(func(t *testing.T, name, value, connection string, trusted, cookies bool) {
		if !httpguts.ValidHeaderFieldName(name) {
			return // net/http lets none such through
		}
		h := http.Header{name: {value, value}, "Connection": {connection}}
		before := maps.Clone(h)
		md, _, err := Request(h, trusted, cookies, report.SizeLimit{Bytes: 64 << 10, Key: report.KeyHeaderBytes}, nil, 0)
		if !reflect.DeepEqual(h, before) {
			t.Fatalf("the request's header became %q", h)
		}
		if err != nil {
			if md != nil || reasonOf(err) == "" {
				t.Errorf("got %q beside the error %v, which is no fault: %v", md, err, reasonOf(err) == "")
			}
			return
		}
		block, _, err := Block(map[string][]string{strings.ToLower(name): {value}}, nil)
		if err != nil && len(md) > 0 {
			t.Errorf("%q: %q crosses in a header and not in a block: %v", name, value, err)
		}
		for where, md := range map[string]metadata.MD{"header": md, "block": block} {
			for got, values := range md {
				switch {
				case named(got, neverUp):
					t.Errorf("%s: %q crosses", where, got)
				case named(got, onlyVouched) && (!trusted || where == "block"):
					t.Errorf("%s: %q crosses, and nobody vouches for it", where, got)
				case strings.Contains(got, "_") && named(strings.ReplaceAll(got, "_", "-"), append(onlyVouched, "culvert-*")):
					t.Errorf("%s: %q crosses, which a backend may take for another name", where, got)
				case got == "cookie" && (!cookies || where == "block"):
					t.Errorf("%s: a cookie crosses", where)
				case where == "header" && slices.ContainsFunc(strings.Split(connection, ","), func(listed string) bool { return strings.EqualFold(strings.TrimSpace(listed), got) }):
					t.Errorf("%s: %q crosses, which Connection: %q lists", where, got, connection)
				case got != strings.ToLower(name) || !codec.ValidName(got):
					t.Errorf("%s: the name %q became %q", where, name, got)
				}
				for _, v := range values {
					if !strings.HasSuffix(got, "-bin") && (v != value || !codec.ValidValue(v)) {
						t.Errorf("%s: the value %q became %q", where, value, v)
					}
				}
			}
		}
	})
}

// TestAskedValuesAlwaysCross: what gRPC can't carry crosses encoded if the configuration
// asks for it. Else it is dropped, by name.
func TestAskedValuesAlwaysCross(t *testing.T) {
	asked := Asked{"last-event-id": true, "x-user": true}
	limit := report.SizeLimit{Bytes: 500, Key: report.KeyHeaderBytes}
	in := map[string][]string{"Last-Event-Id": {"caf\u00e9-7"}, "x-user": {"\xe9", "50%", "plain"}, "x-other": {"caf\u00e9", "plain", "a\tb"}}
	want := metadata.MD{"last-event-id": {"caf%C3%A9-7"}, "x-user": {"%E9", "50%", "plain"}, "x-other": {"plain"}}
	md, dropped, err := Request(in, false, false, limit, asked, 0)
	if err != nil || !reflect.DeepEqual(md, want) || !slices.Equal(dropped, []string{"x-other", "x-other"}) {
		t.Errorf("got %q without %q, %v; want %q", md, dropped, err, want)
	}
	in["last-event-id"] = in["Last-Event-Id"] // a block is in lower case
	delete(in, "Last-Event-Id")
	md, dropped, err = Block(in, asked)
	if err != nil || !reflect.DeepEqual(md, want) || !slices.Equal(dropped, []string{"x-other", "x-other"}) {
		t.Errorf("of a block got %q without %q, %v; want %q", md, dropped, err, want)
	}
	if _, _, err := Request(map[string][]string{"x-user": {"\u00e9\n"}}, false, false, limit, asked, 0); reasonOf(err) != report.ReasonBadRequest {
		t.Errorf("a line end: %v", err)
	}
	if _, _, err := Request(map[string][]string{"x-user": {strings.Repeat("\u00e9", 100)}}, false, false, limit, asked, 0); reasonOf(err) != report.ReasonMetadataTooLarge {
		t.Errorf("600 bytes encoded with a limit of 500: %v", err)
	}
}
