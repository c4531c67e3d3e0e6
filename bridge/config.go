package bridge

import (
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// Config configures a Server.
type Config struct {
	Backend  Backend         // where calls go, under the name DefaultBackend
	Backends []NamedBackend  // in place of Backend: several, by name
	Logger   *slog.Logger    // messages for the operator; nil: discarded
	Observer report.Observer // nil: none

	// CallEnded gets each call once it is over, after the Observer, as CallObserver's Ended
	// does. Unlike an Observer, it costs nothing on the way of messages. If nil, it isn't
	// called.
	CallEnded func(c *report.CallInfo)

	// AllowOrigins are the pages that may call: "https://app.example.com",
	// "https://*.example.com", "http://localhost:*", "vscode-webview://*", a regular
	// expression for the whole origin after "~", "null", or "*" for all but "null".
	// Cookies cross only for an origin that is listed literally. New fails with a
	// *report.OriginError for any other entry.
	AllowOrigins []string

	// TryOrigins only logs and counts pages that AllowOrigins would refuse, and lets
	// them pass without cookies.
	TryOrigins bool

	// Hosts are the names of this server, with or without a port. Pages from them may
	// call. A name without a port stands for the scheme's usual port and for the port
	// in a request's Host.
	Hosts []string

	// LoopbackOnly is Listener's, for Serve and ConfigureHTTP.
	LoopbackOnly bool

	// AllowMethods and DenyMethods are patterns of the form "package.Service/Method",
	// where * stands for any part without a slash. Deny wins. Without an allow pattern,
	// all methods cross but those of routing.DeniedUnlessAllowed.
	AllowMethods, DenyMethods []string

	// PassConnectJSON lets JSON messages of the Connect protocol and of gRPC-Web pass, with
	// the content type application/grpc+json, which the backend must read. Otherwise
	// culvert converts them to protobuf and back, by the backend's descriptors.
	PassConnectJSON bool

	// ConnectGet are patterns of methods, as those of AllowMethods, that the Connect
	// protocol may call by GET: methods without side effects. Otherwise culvert answers
	// 405.
	ConnectGet []string

	// Routes select the backend of each call. A call that no route matches ends
	// UNIMPLEMENTED. AllowMethods, DenyMethods and MethodLimits judge the name of the
	// method that the backend receives. Without routes, all calls go to the only
	// backend, or to the one named DefaultBackend.
	Routes []Route

	// Authenticator identifies the caller of each call, or refuses it, before the
	// method rules apply. If nil, every call passes.
	Authenticator Authenticator

	// TryAuthenticator only logs and counts calls that the Authenticator refuses, and lets them
	// pass.
	TryAuthenticator bool

	// AuthCookies gives the Authenticator a request's cookies (Credentials.Cookie) although
	// ForwardCookies is false. Requests with cookies then need an Origin. The Authenticator gets
	// them only for this server's own pages, and for origins that are listed literally.
	AuthCookies bool

	// BearerSubprotocol lets pages send a token with a WebSocket: as the subprotocol
	// "culvert.bearer." with the token in base64url without padding, beside the one that
	// culvert selects. The Authenticator gets the token as Credentials.Bearer. Boxes that
	// inspect traffic may log it.
	BearerSubprotocol bool

	// TryMethods only logs and counts calls that those patterns would refuse, and lets
	// them pass, except those of routing.DeniedUnlessAllowed.
	TryMethods bool

	// PathPrefix is removed before the method is read: "/grpc".
	PathPrefix string

	// TrustedProxies is Listener's, for Serve and ConfigureHTTP.
	TrustedProxies []netip.Prefix

	// VouchedHeaders are further names that only a trusted peer may set,
	// besides those of package headers.
	VouchedHeaders []string

	// CredentialHeaders are names of metadata in which the Authenticator looks for credentials,
	// besides authorization. A value in them that gRPC can't carry is not dropped but encoded,
	// so that the Authenticator can refuse a damaged credential.
	CredentialHeaders []string

	ForwardCookies    bool // a request's cookies reach the backend
	ForwardSetCookies bool // a backend's set-cookie reaches the client

	// ForwardClientCert sends the backend the names in verified client certificates, in
	// x-forwarded-client-cert.
	ForwardClientCert bool

	DetailedErrors bool // culvert's own statuses include inner causes: for development

	Limits Limits

	// MethodLimits apply to some methods. The first one whose pattern matches counts.
	MethodLimits []MethodQuota

	// TryLimits only logs and counts connections, handshakes and calls over a limit of
	// an address, a listener or a method, and handshakes, calls and compressed bytes
	// over one of the server. The limits that bound memory still apply:
	// Limits.Connections, sizes and times.
	TryLimits bool

	// Memory bounds, in bytes, what culvert holds for all clients: the messages that
	// Limits.BufferedBytes bounds, calls and connections. Calls and connections leave
	// up to a quarter of it to messages. When it is full, culvert ends calls of the
	// address that holds most, and connections of it without a request. culvert refuses
	// calls and connections beyond the bound. Zero: only messages have a bound.
	Memory int64

	// DrainSpread is the time before Shutdown's deadline in which calls that are left
	// end, each at a random moment. Zero: all end a second before the deadline.
	DrainSpread time.Duration

	// Words says the settings that culvert's texts name: those for clients, in the log and in
	// Snapshot. If nil, they are the fields of Config. Texts leave out a setting for which it
	// returns "".
	Words report.Words

	// StandardHTTP2 serves HTTP/2 by net/http's own server instead of bridge/internal/h2: on all
	// listeners, inside tunnels, and in every http.Server that ConfigureHTTP prepares.
	// docs/guides/http2-server.md lists what is lost.
	StandardHTTP2 bool

	// Doctor gives culvert.v1.Path, the service by which clients test their way to culvert,
	// large bounds and the method Report, and serves a page for browsers at
	// /_culvert/doctor. docs/reference/path.md and doctor.md have them.
	Doctor bool

	// PassPath leaves culvert.v1.Path to the backend, whose clients test their way to it and
	// not to this server.
	PassPath bool

	Version string // of the program, for Report

	// FallbackURL is the web server that gets the requests which aren't calls, upgrades
	// to WebSockets of its own and preflights for it included: "http://localhost:3000",
	// "https://app.internal" or "unix:/run/app.sock". It may not be set beside Fallback.
	//
	// culvert keeps requests that look like attempts at calls, and refuses them with the
	// mistake in them: docs/guides/one-origin.md lists them.
	FallbackURL string

	// Fallback serves the requests that FallbackURL would get. No limit of calls applies
	// to it. If both are unset, culvert refuses these requests with an HTTP status.
	Fallback http.Handler
}

// A MethodQuota bounds the calls of all clients to all methods that match a pattern,
// together. A field that isn't positive sets no limit.
type MethodQuota struct {
	Pattern        string // as those of Config.AllowMethods
	MessageBytes   int    // of one message, either way, in place of Limits.MessageBytes
	HeaderBytes    int    // of one metadata block, either way, if that is less than Limits.HeaderBytes
	Calls          int    // at once
	CallsPerSecond int

	DecompressedPerSecond int // bytes of decompressed requests
}
