package bridge

import (
	"log/slog"
	"net/http"
	"net/netip"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// Config configures a Server.
type Config struct {
	Backend  Backend
	Logger   *slog.Logger    // what an operator should know; nil: discarded
	Observer report.Observer // nil: none

	// AllowOrigins are the pages that may call: "https://app.example.com",
	// "https://*.example.com", "http://localhost:*", "vscode-webview://*", a
	// regular expression for the whole origin behind "~", "null", or "*" for
	// all but "null". Cookies pass only for an origin that is listed as it is.
	// New fails with a *gate.OriginError for an entry that is none of these.
	AllowOrigins []string

	// TryOrigins lets pages pass that AllowOrigins would keep out, without
	// cookies: they are only logged and counted.
	TryOrigins bool

	// Hosts are the names that this server is known by, with or without a
	// port. Pages from them may call. A name without a port stands for the
	// scheme's usual port and for the port in a request's Host.
	Hosts []string

	// LoopbackOnly is Listener's, for Serve and ConfigureHTTP.
	LoopbackOnly bool

	// AllowMethods and DenyMethods are patterns as "package.Service/Method",
	// where * stands for any part that has no slash. Deny wins. Without an
	// allow pattern all methods cross but those of DeniedUnlessAllowed.
	AllowMethods, DenyMethods []string

	// Authenticator says who makes each call, or refuses it. It is asked before
	// the method rules. Nil: nobody is asked, and every call passes.
	Authenticator Authenticator

	// TryMethods lets calls pass that those patterns would refuse, but for
	// DeniedUnlessAllowed: they are only logged and counted.
	TryMethods bool

	// PathPrefix is cut off before the method is read: "/grpc".
	PathPrefix string

	// TrustedProxies is Listener's, for Serve and ConfigureHTTP.
	TrustedProxies []netip.Prefix

	// VouchedHeaders are further names that only a trusted peer may set,
	// besides those of RequestRules.
	VouchedHeaders []string

	ForwardCookies    bool // a request's cookies reach the backend
	ForwardSetCookies bool // a backend's set-cookie reaches the client

	// ForwardClientCert tells the backend of verified client
	// certificates, in x-forwarded-client-cert.
	ForwardClientCert bool

	DetailedErrors bool // culvert's own statuses tell inner causes: for development

	Limits Limits

	// MethodLimits hold for some methods. The first whose pattern matches
	// counts.
	MethodLimits []MethodQuota

	// TryLimits lets connections, handshakes and calls pass that are over a
	// limit of an address, a listener or a method, and handshakes, calls and
	// compressed bytes over one of the server. The limits that bound memory still
	// apply: Limits.Connections, sizes and times.
	TryLimits bool

	// Memory bounds what is held for all clients: the messages that
	// Limits.BufferedBytes bounds, calls and connections, in bytes. These two
	// leave up to a quarter of it to messages. Where there is no room, calls of the
	// address that holds most are ended for others, and connections of it that have
	// no request. Calls and connections beyond are refused. Zero: only messages have
	// a bound.
	Memory int64

	// StandardHTTP2 serves HTTP/2 by net/http's own server instead of by
	// bridge/h2: on all listeners, inside tunnels, and in every http.Server that
	// ConfigureHTTP prepares. docs/guides/http2-server.md lists what is lost.
	StandardHTTP2 bool

	// Fallback serves what is neither a call, a WebSocket upgrade nor a
	// browser's preflight. If nil, that is refused with an HTTP status.
	Fallback http.Handler
}

// A MethodQuota bounds the calls of all methods that match a pattern together,
// those of all clients. A field that isn't positive sets no limit.
type MethodQuota struct {
	Pattern        string // as those of Config.AllowMethods
	MessageBytes   int    // of one message, either way, in place of Limits.MessageBytes
	HeaderBytes    int    // of one metadata block, either way, if that is less than Limits.HeaderBytes
	Calls          int    // at once
	CallsPerSecond int

	DecompressedPerSecond int // bytes that compressed requests expand to
}
