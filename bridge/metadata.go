package bridge

import (
	"net/http"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// A rule decides what happens to a header on its way.
type rule int

const (
	pass    rule = iota
	drop         // never crosses
	vouched      // crosses only from a trusted peer's outer request
	cookie       // crosses only if a key allows it
)

// A HeaderRule is one row of the tables of headers that don't cross unchanged.
type HeaderRule struct {
	Name string // a final "*" stands for all names with that prefix
	Rule string // "drop", "vouched" or "cookie"
	Why  string
}

// RequestRules returns the table for metadata on its way to the backend.
func RequestRules() []HeaderRule { return append([]HeaderRule(nil), requestRules...) }

// ResponseRules returns the table for metadata on its way to the client.
func ResponseRules() []HeaderRule { return append([]HeaderRule(nil), responseRules...) }

const (
	hopByHop  = "of one connection, not of the call"
	ofBody    = "describes the HTTP body, which culvert writes anew"
	ofBrowser = "meant for the server that the browser talks to"
	ofGRPC    = "gRPC's own; culvert sets it anew"
	vouch     = "only a trusted front proxy may set it"
	ofFront   = "an instruction to a proxy in front"
	ofCulvert = "culvert's own"
	ofOrigin  = "would set browser rules for culvert's origin"
)

var requestRules = []HeaderRule{
	{":*", "drop", ofGRPC},
	{"connection", "drop", hopByHop},
	{"keep-alive", "drop", hopByHop},
	{"proxy-*", "drop", hopByHop},
	{"upgrade", "drop", hopByHop},
	{"te", "drop", hopByHop},
	{"trailer", "drop", hopByHop},
	{"transfer-encoding", "drop", hopByHop},
	{"http2-settings", "drop", hopByHop},
	{"host", "drop", "the authority is the backend's; the client's is in x-forwarded-host"},
	{"content-length", "drop", ofBody},
	{"content-type", "drop", ofBody},
	{"content-encoding", "drop", ofBody},
	{"expect", "drop", ofBody},
	{"accept", "drop", ofBrowser},
	{"accept-encoding", "drop", ofBrowser},
	{"accept-language", "drop", ofBrowser},
	{"origin", "drop", ofBrowser},
	{"referer", "drop", ofBrowser},
	{"sec-*", "drop", ofBrowser},
	{"access-control-*", "drop", ofBrowser},
	{"user-agent", "drop", "passed on as x-forwarded-user-agent"},
	{"x-grpc-web", "drop", ofGRPC},
	{"grpc-*", "drop", ofGRPC},
	{"connect-*", "drop", "Connect's own"},
	{"lb-token", "drop", "from a load balancer to its backend"},
	{"culvert-*", "drop", ofCulvert},
	{"x-culvert-*", "drop", ofCulvert},
	{"x-request-id", "drop", "culvert adds it anew: the client's value if it is valid, else an id of its own"},
	{"x-forwarded-user-agent", "drop", "added anew"},
	{"cookie", "cookie", "metadata.forward_cookies"},
	{"x-forwarded-client-cert", "vouched", vouch + ", and culvert forwards it only with metadata.client_certificate"},
	{"client-cert", "vouched", vouch},
	{"client-cert-chain", "vouched", vouch},
	{"x-forwarded-*", "vouched", vouch},
	{"forwarded", "vouched", vouch + "; sent on as x-forwarded-*"},
	{"via", "vouched", vouch},
	{"x-real-ip", "vouched", vouch},
	{"x-client-ip", "vouched", vouch},
	{"true-client-ip", "vouched", vouch},
	{"cf-connecting-ip", "vouched", vouch},
	{"fastly-client-ip", "vouched", vouch},
	{"x-cluster-client-ip", "vouched", vouch},
	{"x-envoy-external-address", "vouched", vouch},
	{"x-ssl-client-*", "vouched", vouch},
	{"x-amzn-mtls-*", "vouched", vouch},
	{"x-amzn-oidc-*", "vouched", vouch},
	{"x-goog-iap-*", "vouched", vouch},
	{"x-goog-authenticated-user-*", "vouched", vouch},
	{"x-ms-client-principal*", "vouched", vouch},
	{"x-auth-request-*", "vouched", vouch},
	{"x-original-*", "vouched", vouch},
}

var responseRules = []HeaderRule{
	{":*", "drop", ofGRPC},
	{"connection", "drop", hopByHop},
	{"keep-alive", "drop", hopByHop},
	{"proxy-*", "drop", hopByHop},
	{"upgrade", "drop", hopByHop},
	{"te", "drop", hopByHop},
	{"trailer", "drop", hopByHop},
	{"transfer-encoding", "drop", hopByHop},
	{"content-*", "drop", ofBody},
	{"date", "drop", ofBody},
	{"grpc-status", "drop", ofGRPC},
	{"grpc-message", "drop", ofGRPC},
	{"grpc-encoding", "drop", ofGRPC},
	{"grpc-accept-encoding", "drop", ofGRPC},
	{"grpc-timeout", "drop", ofGRPC},
	{"access-control-*", "drop", ofOrigin},
	{"cross-origin-*", "drop", ofOrigin},
	{"alt-svc", "drop", ofOrigin},
	{"location", "drop", ofOrigin},
	{"refresh", "drop", ofOrigin},
	{"clear-site-data", "drop", ofOrigin},
	{"strict-transport-security", "drop", ofOrigin},
	{"public-key-pins*", "drop", ofOrigin},
	{"service-worker-allowed", "drop", ofOrigin},
	{"report-to", "drop", ofOrigin},
	{"reporting-endpoints", "drop", ofOrigin},
	{"nel", "drop", ofOrigin},
	{"accept-ch", "drop", ofOrigin},
	{"critical-ch", "drop", ofOrigin},
	{"attribution-reporting-*", "drop", ofOrigin},
	{"document-policy*", "drop", ofOrigin},
	{"feature-policy", "drop", ofOrigin},
	{"permissions-policy*", "drop", ofOrigin},
	{"link", "drop", ofOrigin},
	{"no-vary-search", "drop", ofOrigin},
	{"origin-*", "drop", ofOrigin},
	{"sec-*", "drop", ofOrigin},
	{"set-cookie2", "drop", ofOrigin},
	{"set-login", "drop", ofOrigin},
	{"speculation-rules", "drop", ofOrigin},
	{"supports-loading-mode", "drop", ofOrigin},
	{"use-as-dictionary", "drop", ofOrigin},
	{"x-accel-*", "drop", ofFront},
	{"x-sendfile", "drop", ofFront},
	{"culvert-*", "drop", ofCulvert},
	{"x-culvert-*", "drop", ofCulvert},
	{"set-cookie", "cookie", "metadata.forward_set_cookies"},
}

// A ruleset is a table that is quick to look up.
type ruleset struct {
	exact    map[string]rule
	prefixes []prefixRule

	// Names, and prefixes of names, that only culvert and trusted proxies may set.
	spoofable         map[string]bool
	spoofablePrefixes []string
}

type prefixRule struct {
	prefix string
	rule   rule
}

func compileRules(table []HeaderRule) ruleset {
	words := map[string]rule{"drop": drop, "vouched": vouched, "cookie": cookie}
	rs := ruleset{exact: make(map[string]rule, len(table)), spoofable: make(map[string]bool)}
	for _, row := range table {
		prefix, open := strings.CutSuffix(row.Name, "*")
		spoofable := row.Rule == "vouched" || row.Why == ofCulvert
		switch {
		case open && spoofable:
			rs.spoofablePrefixes = append(rs.spoofablePrefixes, prefix)
		case spoofable:
			rs.spoofable[row.Name] = true
		}
		if open {
			rs.prefixes = append(rs.prefixes, prefixRule{prefix, words[row.Rule]})
		} else {
			rs.exact[row.Name] = words[row.Rule]
		}
	}
	return rs
}

// of returns the rule of a lower-case name.
func (rs ruleset) of(name string) rule {
	if r, ok := rs.exact[name]; ok {
		return r
	}
	if strings.ContainsAny(name, "_.") && rs.imitated(hyphened(name)) {
		return drop
	}
	for _, p := range rs.prefixes {
		if strings.HasPrefix(name, p.prefix) {
			return p.rule
		}
	}
	return pass
}

// imitated reports whether name is reserved for culvert and its trusted proxies. name
// is the hyphenated form of a name with underscores or dots. Backends that turn headers
// into CGI variables read x_forwarded_for as HTTP_X_FORWARDED_FOR; PHP does the same
// with x.forwarded.for. Nobody may send such a name, not even a trusted proxy: a proxy
// itself writes hyphens, but may pass on its client's header.
func (rs ruleset) imitated(name string) bool {
	return rs.spoofable[name] || slices.ContainsFunc(rs.spoofablePrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// reachesWeb reports whether a field of the name reaches the web server. It gets all but
// those that only culvert and trusted proxies may set.
func (rs ruleset) reachesWeb(name string, trusted bool) bool {
	if plain := hyphened(name); plain != name && rs.imitated(plain) {
		return false
	}
	return !rs.imitated(name) || trusted && rs.of(name) == vouched
}

func hyphened(name string) string { return hyphens.Replace(name) }

var hyphens = strings.NewReplacer("_", "-", ".", "-")

// vouchedNames are the names that the operator adds to the table's.
type vouchedNames struct{ exact, hyphened map[string]bool }

func newVouchedNames(names []string) vouchedNames {
	v := vouchedNames{exact: lowerSet(names), hyphened: make(map[string]bool, len(names))}
	for name := range v.exact {
		v.hyphened[hyphened(name)] = true
	}
	return v
}

// strike removes from md these names, unless a trusted peer sets them, and the names
// that imitate them.
func (v vouchedNames) strike(md metadata.MD, trusted bool) {
	if len(v.exact) == 0 {
		return
	}
	for name := range md {
		if v.strikes(name, trusted) {
			delete(md, name)
		}
	}
}

func (v vouchedNames) strikes(name string, trusted bool) bool {
	return v.exact[name] && !trusted || !v.exact[name] && v.hyphened[hyphened(name)]
}

var (
	toUpstream   = compileRules(requestRules)
	toDownstream = compileRules(responseRules)
)

// crosses reports whether any client may send metadata of the name.
func crosses(name string) bool { return toUpstream.of(name) == pass }

// requestMetadata makes a call's metadata from the headers of its request. Names listed
// in Connection belong to that connection, so they don't cross.
func requestMetadata(h http.Header, trusted, cookies bool, limit report.SizeLimit) (metadata.MD, error) {
	hop := connectionNames(h)
	size := 0
	kept := make(map[string][]string, len(h))
	for name, values := range h {
		name = strings.ToLower(name)
		for _, v := range values {
			size += codec.FieldBytes(name, v)
		}
		switch toUpstream.of(name) {
		case drop:
			continue
		case vouched:
			if !trusted {
				continue
			}
		case cookie:
			if !cookies {
				continue
			}
		case pass:
		}
		if hop[name] {
			continue
		}
		kept[name] = append(kept[name], values...)
	}
	if size > limit.Bytes {
		return nil, tooMuchMetadata("request", size, limit)
	}
	return sane(kept)
}

// blockMetadata makes metadata from the header block in a WebSocket's first message.
// The block can't set headers that only the upgrade request can.
func blockMetadata(block map[string][]string) (metadata.MD, error) {
	kept := make(map[string][]string, len(block))
	for name, values := range block {
		if toUpstream.of(name) == pass {
			kept[name] = values
		}
	}
	return sane(kept)
}

// sane decodes binary values and removes metadata for which grpc-go would refuse the
// whole call: names that it can't send, and ASCII values with other characters (tab,
// UTF-8). CR, LF and NUL can only be an attack.
func sane(h map[string][]string) (metadata.MD, error) {
	for name, values := range h {
		if !codec.ValidName(name) {
			delete(h, name)
			continue
		}
		if strings.HasSuffix(name, "-bin") {
			continue
		}
		kept := values[:0:0]
		for _, v := range values {
			if strings.ContainsAny(v, "\r\n\x00") {
				return nil, report.Newf(report.ReasonBadRequest, "the metadata %q contains a line end or NUL", name)
			}
			if codec.ValidValue(v) {
				kept = append(kept, v)
			}
		}
		if len(kept) == 0 {
			delete(h, name)
			continue
		}
		h[name] = kept
	}
	md, err := codec.DecodeMetadata(h)
	if err != nil {
		return nil, report.New(report.ReasonBadRequest, "the metadata can't be read: "+err.Error())
	}
	return md, nil
}

// responseMetadata returns the part of an upstream's header or trailer that may reach
// the client. It doesn't change its input.
func responseMetadata(md metadata.MD, setCookies bool) metadata.MD {
	out := make(metadata.MD, len(md))
	for name, values := range md {
		switch toDownstream.of(name) {
		case pass:
			out[name] = values
		case cookie:
			if setCookies {
				out[name] = values
			}
		case drop, vouched:
		}
	}
	return out
}

// connectionNames returns the names that Connection lists, in lower case.
func connectionNames(h http.Header) map[string]bool {
	var names map[string]bool
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if names == nil {
				names = make(map[string]bool)
			}
			names[strings.ToLower(strings.TrimSpace(name))] = true
		}
	}
	return names
}

// metadataBytes returns the size of metadata as HTTP/2 counts it.
func metadataBytes(md metadata.MD) int {
	n := 0
	for name, values := range md {
		for _, v := range values {
			n += codec.FieldBytes(name, v)
		}
	}
	return n
}

func tooMuchMetadata(what string, size int, limit report.SizeLimit) *report.Fault {
	return report.Newf(report.ReasonMetadataTooLarge, "the %s metadata of %d bytes is over the limit of %d (%s)", what, size, limit.Bytes, limit.Key).UnlessRaised(limit.Key)
}

func lowerSet(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[strings.ToLower(n)] = true
	}
	return set
}
