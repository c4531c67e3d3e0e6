package doctor

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// with returns findings that have a result each.
func with(pairs ...any) findings {
	f := findings{}
	for i := 0; i < len(pairs); i += 2 {
		p := pairs[i].(Probe)
		switch v := pairs[i+1].(type) {
		case Result:
			f[p] = Finding{Probe: p, Result: v}
		case Finding:
			f[p] = v.of(p)
		}
	}
	return f
}

// page returns findings of a page, which knows nothing of native gRPC.
func page(pairs ...any) findings {
	return with(append([]any{probeGRPC, Finding{Result: unknown, Cause: causeHidden}}, pairs...)...)
}

func TestJudge(t *testing.T) {
	answered := func(r Result, a Answer) Finding { return Finding{Result: r, Answer: &a, Evidence: a.String()} }
	byHost := Finding{Result: refused, Cause: causeHostUnknown, Answer: &Answer{Culvert: true, Status: 403, Reason: "ORIGIN_DENIED"}}
	limited, overloaded := Finding{Result: unknown, Cause: causeQuota}, Finding{Result: unknown, Cause: causeServiceRefuses}
	for name, c := range map[string]struct {
		f    findings
		bidi Possible
		want []string
	}{
		"nothing was found":             {with(), No, []string{"way-none"}},
		"no such name":                  {with(probeDNS, failed), No, []string{"way-none", "dns-fails"}},
		"refused":                       {with(probeConnect, refused), No, []string{"way-none", "connect-refused"}},
		"silent":                        {with(probeConnect, silent), No, []string{"way-none", "connect-silent"}},
		"no route":                      {with(probeConnect, failed), No, []string{"way-none", "connect-fails"}},
		"a proxy that isn't there":      {with(probeConnect, Finding{Result: failed, Cause: causeProxyUnreachable}), No, []string{"way-none", "proxy-unreachable"}},
		"wrong password":                {with(probeConnect, Finding{Result: refused, Cause: causeProxyLoginWrong}), No, []string{"way-none", "proxy-login-wrong"}},
		"plaintext":                     {with(probeTLS, Finding{Result: failed, Cause: causeNotTLS}), No, []string{"way-none", "tls-not-tls"}},
		"expired":                       {with(probeTLS, Finding{Result: failed, Cause: causeWrongCertificate}), No, []string{"way-none", "tls-wrong-certificate"}},
		"another failure of TLS":        {with(probeTLS, failed), No, []string{"way-none", "tls-fails"}},
		"native":                        {with(probeGRPCBidi, works), Yes, []string{"way-grpc"}},
		"a WebSocket of another server": {with(probeSocket, works, probeSocketHTTP2, works, probeSocketBidi, Finding{Result: unknown, Cause: causeUnimplemented}), Yes, []string{"way-websocket"}},
		"another gRPC server": {
			with(probeHTTP2, works, probeGRPC, Finding{Result: works, Cause: causeUnimplemented}, probeGRPCBidi, Finding{Result: unknown, Cause: causeUnimplemented}, probeService, Finding{Result: unknown, Cause: causeUnimplemented}), CantTell,
			[]string{"way-unknown", "service-missing"},
		},
		"without a token": {
			with(probeHTTP2, works, probeGRPC, Finding{Result: works, Cause: causeUnauthenticated}, probeGRPCBidi, Finding{Result: unknown, Cause: causeUnauthenticated}), CantTell,
			[]string{"way-unknown", "unauthenticated"},
		},
		"a page where gRPC was": {
			with(probeHTTP2, works, probeGRPC, answered(refused, Answer{Status: 403, Says: "Access denied"}), probeWeb, works, probeWebStream, works, probeWebChunked, works), No,
			[]string{"way-grpc-web", "grpc-refused", "box-answered"},
		},
		"Cloudflare": {
			with(probeHTTP2, works, probeGRPC, answered(refused, Answer{Status: 403, Product: "Cloudflare"}), probeWebBidi, works, probeWeb, works, probeWebChunked, works, probeWebStream, works), Yes,
			[]string{"way-grpc-web-bidi", "grpc-refused-cloudflare", "box-answered"},
		},
		"a hop of HTTP/1.1": {
			with(probeHTTP2, works, probeGRPC, Finding{Result: refused, Cause: causeServiceHTTP1, Answer: &Answer{Culvert: true, Status: 505}}, probeSocket, works, probeSocketHTTP2, works, probeSocketBidi, works), Yes,
			[]string{"way-websocket", "http1-behind"},
		},
		"another server with gRPC-Web, that refuses WebSockets": {with(probeSocket, answered(refused, Answer{Status: 404}), probeWeb, Finding{Result: works, Cause: causeUnimplemented}, probeWebBidi, Finding{Result: unknown, Cause: causeUnimplemented}), CantTell, []string{"way-unknown", "service-missing"}},
		"a host that culvert doesn't know": {
			with(probeHTTP2, works, probeGRPC, byHost, probeGRPCStream, byHost, probeGRPCBidi, byHost, probeSocket, byHost, probeWeb, byHost, probeWebChunked, byHost, probeWebStream, byHost, probeWebBidi, byHost, probeService, byHost), No,
			[]string{"way-none", "host-unknown"},
		},
		"culvert refuses a protocol": {
			with(probeGRPCBidi, works, probeSocket, works, probeSocketHTTP2, works, probeSocketBidi, works, probeWeb, answered(refused, Answer{Culvert: true, Status: 404, Reason: "NO_ROUTE"}).because(causeServiceRefuses)), Yes,
			[]string{"way-grpc", "service-refuses"},
		},
		"culvert refuses what is large": {
			with(probeGRPCBidi, works, probeWeb, works, probeLargeBody, answered(refused, Answer{Culvert: true, Status: 413, Reason: "LIMIT_EXCEEDED"}).because(causeQuota), probeLargeHeader, answered(refused, Answer{Culvert: true, Status: 503, Reason: "OVERLOADED"}).because(causeServiceRefuses)), Yes,
			[]string{"way-grpc", "quota", "service-refuses"},
		},
		"limited calls": {
			with(probeHTTP2, works, probeGRPC, Finding{Result: works, Cause: causeQuota}, probeGRPCBidi, limited, probeSocket, works, probeSocketHTTP2, works, probeSocketBidi, limited, probeWeb, Finding{Result: works, Cause: causeQuota}, probeWebBidi, limited), CantTell,
			[]string{"way-unknown", "quota"},
		},
		"limited calls, and no HTTP/2": {
			with(probeALPN, stripped, probeSocket, works, probeSocketHTTP2, works, probeSocketBidi, limited), CantTell,
			[]string{"way-unknown", "no-http2", "quota"},
		},
		"limited calls of native gRPC": {
			with(probeHTTP2, works, probeGRPCBidi, limited, probeSocket, works, probeSocketHTTP2, works, probeSocketBidi, works), Yes,
			[]string{"way-untested", "quota"},
		},
		"an overloaded culvert": {
			with(probeHTTP2, works, probeGRPCBidi, overloaded, probeSocket, works, probeSocketHTTP2, works, probeSocketBidi, overloaded), CantTell,
			[]string{"way-unknown", "service-refuses"},
		},
		"without a token, in each way": {
			with(probeHTTP2, works, probeGRPCBidi, Finding{Result: unknown, Cause: causeUnauthenticated}, probeSocket, works, probeSocketHTTP2, works, probeSocketBidi, Finding{Result: unknown, Cause: causeUnauthenticated}), CantTell,
			[]string{"way-unknown", "unauthenticated"},
		},
		"a slow handshake, and silence": {
			with(probeTLS, Finding{Result: works, Took: 2 * time.Second}, probeHTTP2, works, probeGRPC, works, probeGRPCBidi, held, probeSocket, silent, probeWeb, silent), CantTell,
			[]string{"way-unknown", "slow"},
		},
		"a slow service, and silence": {
			with(probeTLS, works, probeTypeJSON, Finding{Result: works, Took: 7 * time.Second}, probeSocket, silent, probeWeb, works, probeWebChunked, works, probeWebStream, works, probeWebBidi, held), CantTell,
			[]string{"way-unknown", "slow"},
		},
		"a slow transfer, and silence": {with(probeLargeBody, Finding{Result: works, Took: 7 * time.Second}, probeSocket, silent), No, []string{"way-none", "websocket-silent"}},
		"a WebSocket without a connection": {
			with(probeHTTP2, works, probeGRPCBidi, cut, probeSocket, Finding{Result: cut, Cause: causeNoConnection}, probeWeb, works, probeWebBidi, works), Yes,
			[]string{"way-grpc-web-bidi", "grpc-cut", "no-connection"},
		},
		"a redirect of one content type": {
			with(probeHTTP2, works, probeGRPC, answered(refused, Answer{Status: 307}).because(causeOtherSite), probeWeb, works, probeWebChunked, works, probeWebStream, works), No,
			[]string{"way-grpc-web", "grpc-refused", "box-answered"},
		},
		"resets of streams":                   {with(probeHTTP2, works, probeGRPC, cut), No, []string{"way-none", "grpc-cut"}},
		"no answer to a call":                 {with(probeHTTP2, works, probeGRPC, silent), No, []string{"way-none", "grpc-silent"}},
		"bidirectional streams alone are cut": {with(probeHTTP2, works, probeGRPC, works, probeGRPCBidi, cut), No, []string{"way-unary", "grpc-cut"}},
		"HTTP/2 is answered in HTTP/1.1":      {with(probeHTTP2, Finding{Result: refused, Cause: causeHTTP1}), No, []string{"way-none", "http2-dead"}},
		"a WebSocket that is cut":             {with(probeSocket, cut), No, []string{"way-none", "websocket-cut"}},
		"an upgrade without a token":          {with(probeSocket, Finding{Result: refused, Cause: causeUnauthenticated, Answer: &Answer{Culvert: true, Status: 401}}), No, []string{"way-none", "unauthenticated"}},
		"gRPC-Web hangs":                      {with(probeWeb, silent), No, []string{"way-none", "grpc-web-silent"}},
		"gRPC-Web is cut":                     {with(probeWeb, cut), No, []string{"way-none", "grpc-web-cut"}},
		"chunked is cut":                      {with(probeWeb, works, probeWebChunked, cut, probeWebStream, works), No, []string{"way-grpc-web", "chunked-refused"}},
		"certificates of a CDN":               {with(probeTLS, works, probeDecryption, Finding{Result: unknown, Cause: causeEndsBefore}, probeGRPCBidi, works), Yes, []string{"way-grpc", "tls-ends-before"}},
		"an origin":                           {with(probeGRPCBidi, works, probePreflight, Finding{Result: refused, Cause: causeOriginDenied}), Yes, []string{"way-grpc", "origin-denied"}},
		"a lost preflight":                    {with(probeGRPCBidi, works, probePreflight, stripped), Yes, []string{"way-grpc", "preflight-lost"}},
		"a policy of a page":                  {with(probeGRPCBidi, works, probePage, Finding{Result: refused, Cause: causePolicyBlocks}), Yes, []string{"way-grpc", "csp-blocks"}},
		"a page":                              {page(probeSocket, works, probeSocketHTTP2, works, probeSocketBidi, works, probeALPN, unknown, probeDecryption, unknown), Yes, []string{"way-websocket-page"}},
		"a page whose WebSocket fails":        {page(probeSocket, Finding{Result: failed, Cause: causeHidden}, probeWeb, works, probeWebStream, works), No, []string{"way-grpc-web", "websocket-fails"}},
		"answers that a browser hides":        {page(probePreflight, Finding{Result: refused, Cause: causeHidden}), No, []string{"way-none", "answers-hidden"}},
		"mixed content":                       {with(probeGRPCBidi, works, probePage, Finding{Result: refused, Cause: causeMixedContent}), Yes, []string{"way-grpc", "mixed-content"}},
		"a page that isn't there":             {with(probeGRPCBidi, works, probePage, Finding{Result: unknown, Cause: causeUnreachable}), Yes, []string{"way-grpc", "page-unreachable"}},
	} {
		j := judgementOf(c.f, circumstances{Host: "edge.example.com", Port: "443", Authority: "edge.example.com", Proxy: "proxy:3128", S: "s"})
		var got []string
		for _, v := range j.Verdicts {
			got = append(got, v.ID)
			if strings.ContainsAny(v.Words+v.Ask, "{}") {
				t.Errorf("%s: %q, %q have a name that isn't replaced", name, v.Words, v.Ask)
			}
		}
		if j.Bidirectional != c.bidi || !slices.Equal(got, c.want) {
			t.Errorf("%s: bidirectional %s, %q; want %s, %q", name, j.Bidirectional, got, c.bidi, c.want)
		}
	}
}

// TestPlaintext: the words about an http edge name its schemes, and no agreement in TLS.
func TestPlaintext(t *testing.T) {
	j := judgementOf(with(probeHTTP2, cut, probePage, Finding{Result: refused, Cause: causePolicyBlocks}), circumstances{Host: "edge.test", Port: "80", Authority: "edge.test"})
	if len(j.Verdicts) != 3 || j.Verdicts[1].ID != "no-h2c" || !strings.Contains(j.Verdicts[2].Words, "add http://edge.test and ws://edge.test to") {
		t.Errorf("got %+v", j.Verdicts)
	}
}

// TestPagesThatMayNotCall: no client for pages is named where the page can use none.
func TestPagesThatMayNotCall(t *testing.T) {
	socket := func(pairs ...any) findings {
		return with(append([]any{probeSocket, works, probeSocketHTTP2, works, probeSocketBidi, works, probeWeb, works}, pairs...)...)
	}
	for name, c := range map[string]struct {
		f    findings
		want string
	}{
		"all is well":                 {socket(probePreflight, works, probePage, works), "websocket"},
		"a policy":                    {socket(probePage, Finding{Result: refused, Cause: causePolicyBlocks}), ""},
		"an origin":                   {socket(probePreflight, Finding{Result: refused, Cause: causeOriginDenied}), ""},
		"a preflight that a box ends": {socket(probePreflight, refused), "websocket"},
		"and no WebSocket":            {with(probeWeb, works, probeWebStream, works, probePreflight, refused), ""},
	} {
		if got := judgementOf(c.f, circumstances{}).Verdicts[0].Pages; got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestEachVerdictIsSaidAndDocumented: each row of the table is used, and its anchor is there.
func TestEachVerdictIsSaidAndDocumented(t *testing.T) {
	var code strings.Builder
	for _, name := range []string{"verdict.go", "finding.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(text)
	}
	ways := []string{"", "grpc", "websocket", "grpc-web", "auto"}
	for _, id := range sorted(verdicts()) {
		v := verdicts()[id]
		if !strings.Contains(code.String(), `"`+id+`"`) {
			t.Errorf("nothing says %s", id)
		}
		if v.Words == "" || v.Evidence != "" || !slices.Contains(ways, v.Programs) || !slices.Contains(ways, v.Pages) {
			t.Errorf("the row of %s is %+v", id, v)
		}
		page, anchor, _ := strings.Cut(v.Docs, "#")
		text, err := os.ReadFile(filepath.Join("../../docs", page))
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		if !slices.Contains(anchors(string(text)), anchor) {
			t.Errorf("%s: %s has no heading for #%s", id, page, anchor)
		}
	}
}

var heading = regexp.MustCompile(`(?m)^#+ (.*)$`)

// anchors returns those of a page's headings, as GitHub makes them.
func anchors(page string) []string {
	var all []string
	for _, m := range heading.FindAllStringSubmatch(page, -1) {
		all = append(all, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
				return r
			}
			return -1
		}, strings.ToLower(m[1])))
	}
	return all
}
