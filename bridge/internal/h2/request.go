package h2

import (
	"cmp"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
)

// malformed is the reason why a request is malformed. RFC 9113 §8.1.1.
type malformed string

// forConnections are the fields that HTTP/2 forbids. RFC 9113 §8.2.2.
var forConnections = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Transfer-Encoding": true, "Upgrade": true,
}

// noRequest is the initial value of requests, so that WithContext copies nothing.
var noRequest = new(http.Request)

func (c *conn) newStream(b *headerBlock) (*stream, error) {
	st := newStream(c, b.stream)
	r := noRequest.WithContext(st.ctx)
	r.Proto, r.ProtoMajor = "HTTP/2.0", 2
	r.RemoteAddr, r.TLS = c.remote, c.tls
	r.Method, r.Host = b.pseudo.method, b.pseudo.authority
	st.req = r
	why := b.fillHeader(r, &c.names)
	if why == "" {
		why = b.fillTarget(r)
	}
	if why == "" {
		why = st.fillBody(b.end)
	}
	if why != "" {
		st.cancel()
		return nil, streamError{b.stream, http2.ErrCodeProtocol, string(why)}
	}
	_, st.browser = r.Header["Sec-Fetch-Site"] // https://www.w3.org/TR/fetch-metadata
	st.handler = c.handler
	if b.truncated {
		st.handler = c.tooLarge
	}
	return st, nil
}

// fillHeader fills in the fields, with net/http's spelling.
func (b *headerBlock) fillHeader(r *http.Request, names *nameCache) malformed {
	r.Header = make(http.Header, len(b.fields))
	values := make([]string, len(b.fields)) // the memory of most of the lists
	for i, f := range b.fields {
		name := names.canonical(f.Name)
		if forConnections[name] {
			return "a connection-specific field"
		}
		if have, ok := r.Header[name]; ok {
			r.Header[name] = append(have, f.Value)
			continue
		}
		values[i] = f.Value
		r.Header[name] = values[i : i+1 : i+1]
	}
	if te, ok := r.Header["Te"]; ok && (len(te) > 1 || te[0] != "trailers" && te[0] != "") {
		return "te is not trailers"
	}
	if cookies := r.Header["Cookie"]; len(cookies) > 1 { // RFC 9113 §8.2.3
		r.Header["Cookie"] = []string{strings.Join(cookies, "; ")}
	}
	for _, list := range r.Header["Trailer"] {
		declareTrailers(r, list)
	}
	delete(r.Header, "Trailer")
	return ""
}

// declareTrailers notes the trailers that a request announces.
func declareTrailers(r *http.Request, list string) {
	for name := range strings.SplitSeq(list, ",") {
		switch name = http.CanonicalHeaderKey(strings.TrimSpace(name)); name {
		case "Transfer-Encoding", "Trailer", "Content-Length": // RFC 9110 §6.5.1
			continue
		}
		if r.Trailer == nil {
			r.Trailer = make(http.Header)
		}
		r.Trailer[name] = nil
	}
}

// fillTarget fills in the target of the request. RFC 9113 §8.3.1, §8.5.
func (b *headerBlock) fillTarget(r *http.Request) malformed {
	p := &b.pseudo
	if hosts, ok := r.Header["Host"]; ok {
		if len(hosts) > 1 {
			return "two hosts"
		}
		r.Host = cmp.Or(r.Host, hosts[0])
		// As net/http does for HTTP/1.1. Beside an authority it means nothing (gRFC
		// A41), so that no later code can take it for the authority.
		delete(r.Header, "Host")
	}
	if !httpguts.ValidHostHeader(r.Host) || strings.Contains(r.Host, "@") {
		return "the authority"
	}
	if p.method == http.MethodConnect {
		if p.seen[":scheme"] || p.seen[":path"] || r.Host == "" {
			return "a CONNECT must have a method and an authority only"
		}
		r.URL, r.RequestURI = &url.URL{Host: r.Host}, r.Host
		return ""
	}
	isToken := httpguts.ValidHeaderFieldName // methods are tokens, as names of fields are
	if !isToken(p.method) || p.scheme != "http" && p.scheme != "https" {
		return "the method or the scheme"
	}
	if !strings.HasPrefix(p.path, "/") && (p.path != "*" || p.method != http.MethodOptions) {
		return "the path"
	}
	u, err := url.ParseRequestURI(p.path)
	if err != nil {
		return "the path"
	}
	r.URL, r.RequestURI = u, p.path
	return ""
}

// fillBody fills in the body and its length. ended reports that there is none.
func (st *stream) fillBody(ended bool) malformed {
	r := st.req
	st.declared = -1
	for i, text := range r.Header["Content-Length"] {
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil || i > 0 && int64(n) != st.declared {
			return "the content-length"
		}
		st.declared = int64(n)
	}
	expects := httpguts.HeaderValuesContainsToken(r.Header["Expect"], "100-continue")
	if expects {
		delete(r.Header, "Expect")
	}
	if ended {
		if st.declared > 0 {
			return "a content-length without content"
		}
		st.remoteClosed, st.readErr = true, io.EOF
		r.Body = http.NoBody
		return ""
	}
	r.ContentLength, r.Body = st.declared, &st.body
	if r.Trailer != nil {
		st.trailer = make(http.Header)
	}
	st.body.expected = expects
	return ""
}

func headerTooLarge(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
	_, _ = io.WriteString(w, "the request's header is too large\n") // the client may be gone
}

// commonNames are spelt without a question to net/http each time.
var commonNames, wireNames = func() (common, wire map[string]string) {
	common, wire = make(map[string]string), make(map[string]string)
	for _, name := range []string{
		"Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Content-Encoding", "Content-Length",
		"Content-Type", "Cookie", "Date", "Expect", "Forwarded", "Grpc-Accept-Encoding", "Grpc-Encoding", "Grpc-Message",
		"Grpc-Message-Type", "Grpc-Previous-Rpc-Attempts", "Grpc-Status", "Grpc-Status-Details-Bin", "Grpc-Tags-Bin",
		"Grpc-Timeout", "Grpc-Trace-Bin", "Host", "Origin", "Referer", "Server", "Set-Cookie", "Te", "Trace-Id", "Traceparent",
		"Tracestate", "Trailer", "User-Agent", "Vary", "Via", "X-Accel-Buffering", "X-Content-Type-Options", "X-Forwarded-For",
		"X-Forwarded-Host", "X-Forwarded-Proto", "X-Grpc-Web", "X-Request-Id", "X-User-Agent",
	} {
		lower := strings.ToLower(name)
		common[lower], wire[name] = name, lower
	}
	return common, wire
}()

// A nameCache has net/http's spelling of the names that a client uses.
type nameCache struct {
	names map[string]string
	bytes int
}

// maxNameBytes bounds how much a client can put into its cache.
const maxNameBytes = 2 << 10

func (n *nameCache) canonical(name string) string {
	if s, ok := commonNames[name]; ok {
		return s
	}
	if s, ok := n.names[name]; ok {
		return s
	}
	s := http.CanonicalHeaderKey(name)
	if size := 2*len(name) + 100; n.bytes+size <= maxNameBytes { // a map's overhead
		if n.names == nil {
			n.names = make(map[string]string)
		}
		n.names[name] = s
		n.bytes += size
	}
	return s
}
