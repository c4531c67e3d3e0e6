package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// Route sends the calls that match it to a backend.
type Route struct {
	// The name of the route, in the log and in errors.
	Name string `key:"name" is:"backend name" needed:"true"`

	// Which calls the route is for. All conditions must be true.
	Match RouteMatch `key:"match"`

	// The name of the backend. Each route needs this key or split.
	Backend string `key:"backend" is:"backend name"`

	// Several backends that share the calls by weight, in place of backend.
	Split []RouteTarget `key:"split"`

	// The metadata, such as x-user-id, whose value selects a backend of split. Calls
	// without it go by weight.
	Sticky string `key:"sticky" is:"sticky name"`

	// What culvert changes in the method and in the authority.
	Rewrite RouteRewrite `key:"rewrite"`

	// What culvert changes in the metadata for the backend.
	Metadata RouteMetadata `key:"metadata"`

	// The maximum time of a call, also of calls without a deadline. 0s: as the
	// client asks.
	Timeout time.Duration `key:"timeout"`

	// How long a call may carry no message, in place of limits.idle_timeout. 0s:
	// no limit. As there, the call may end a tenth earlier, or a tenth and 2s
	// later.
	IdleTimeout time.Duration `key:"idle_timeout" like:"limits.idle_timeout"`

	// How long a call may last, in place of limits.max_age. 0s: no limit. As
	// there, the call may end a tenth earlier, or a tenth and 2s later. Unlike with
	// timeout, the backend isn't told, and clients get UNAVAILABLE, so that they
	// call again.
	MaxAge time.Duration `key:"max_age" like:"limits.max_age"`

	// When culvert sends a failed call again.
	Retry RouteRetry `key:"retry"`

	// Origins of pages that may call, in place of the global ones. []: only
	// culvert's own pages. Default: allow_origins. A route that matches metadata or
	// transports can't set this key
	// (docs/reference/routes.md#which-rules-judge-a-call).
	AllowOrigins []string `key:"allow_origins" is:"origin"`

	// Limits of all calls of the route together, in addition to the others. The
	// lowest size applies. For larger messages of some methods set limits.methods.
	Limits RouteLimits `key:"limits" as:"limits"`

	// Makes this a route only for clients that send bare messages
	// (docs/reference/messages.md).
	Message RouteMessage `key:"message"`
}

// RouteMessage binds a path to a method, for clients that send bare messages.
type RouteMessage struct {
	// The path behind path_prefix, such as "/ws/chat". If it ends with
	// "/{service}/{method}", clients name the method, one of match.methods.
	Path string `key:"path" is:"message path"`

	// The method, such as shop.v1.Orders/Watch, unless the path names it.
	Method string `key:"method" is:"method name"`

	// What a message of the client is (docs/reference/messages.md).
	Framing string `key:"framing" words:"framings"`

	// For opamp: the unary method for agents that poll. Empty: culvert holds a call
	// of method open for each.
	PollMethod string `key:"poll_method" is:"method name"`

	// The WebSocket subprotocol that clients must offer. Empty: any or none.
	Subprotocol string `key:"subprotocol" is:"word"`

	// URL parameters that become metadata. Others don't cross.
	Query []string `key:"query" is:"metadata name"`

	// The metadata, such as authorization, whose value is the client's first
	// message: text, within 10s.
	FirstMessage string `key:"first_message" is:"metadata name"`

	// For json on a WebSocket: a member, such as "@authorization". An object with
	// this member alone renews the caller's credential, and isn't for the method
	// (docs/reference/session.md). Empty: none.
	Refresh string `key:"refresh" is:"word"`

	// The client's text message for a half-close. Empty: none.
	HalfClose string `key:"half_close" is:"word"`

	// What culvert sends before it closes the WebSocket: nothing, or the call's
	// status in JSON.
	LastMessage string `key:"last_message" one:"none,status"`

	// Fields of a client's JSON that the message doesn't have: ignore them, or
	// reject the message.
	UnknownFields string `key:"unknown_fields" one:"ignore,reject"`

	// Names of fields in JSON for clients: in lowerCamelCase (json), or as in the
	// .proto file (proto). culvert reads both.
	FieldNames string `key:"field_names" one:"json,proto"`

	// Values of enums in JSON for clients: names or numbers. culvert reads both.
	Enums string `key:"enums" one:"names,numbers"`

	// Put fields with their default values in JSON for clients, too.
	Defaults bool `key:"defaults"`

	// For json: the kind of WebSocket messages for clients. culvert reads both.
	JSONOut string `key:"json_out" one:"text,binary"`

	// For sse: the field of the replies, by its name in the .proto file, whose
	// text or number is the event's id. Empty: no ids.
	EventID string `key:"event_id" is:"word"`

	// For sse and ndjson: the silence after which culvert sends a comment (sse) or
	// an empty line (ndjson). 0s: never. Default: 15s.
	Heartbeat time.Duration `key:"heartbeat" is:"seconds or 0"`
}

// RouteMatch has the conditions of a route.
type RouteMatch struct {
	// Hosts that the client calls: "shop.example.com", "*.example.com" for all
	// names below a domain. Empty: any.
	Hosts []string `key:"hosts" is:"route host"`

	// The beginning of the path behind the file's path_prefix, in whole elements:
	// "/team-a".
	PathPrefix string `key:"path_prefix" is:"path prefix"`

	// Patterns of methods, before rewrite. Empty: any.
	Methods []string `key:"methods" is:"method pattern"`

	// Conditions for the metadata of the call.
	Metadata []MetadataMatch `key:"metadata"`

	// Names of listeners. Empty: any.
	Listeners []string `key:"listeners" is:"word"`

	// Client protocols; h2ts for calls inside a tunnel. Empty: any.
	Transports []string `key:"transports" words:"call transports"`
}

// MetadataMatch is a condition for metadata.
type MetadataMatch struct {
	// The name of the metadata.
	Name string `key:"name" is:"metadata name" needed:"true"`

	// The only value that it must have. Without this key, any value matches.
	Value string `key:"value" is:"word"`
}

// RouteTarget is a backend with its share of a route's calls.
type RouteTarget struct {
	// The name of the backend.
	Backend string `key:"backend" is:"backend name" needed:"true"`

	// Its share, relative to the other weights. 0: no calls.
	Weight int `key:"weight" needed:"true"`
}

// RouteRewrite changes the address of a call.
type RouteRewrite struct {
	// Replaces match.path_prefix. "/" removes it.
	PathPrefix string `key:"path_prefix" is:"rewrite prefix"`

	// The ":authority" of the calls, in place of the backend's. With TLS, the
	// backend's certificate must have this name; SNI stays the backend's.
	Authority string `key:"authority" is:"host"`
}

// RouteMetadata changes the metadata of a call.
type RouteMetadata struct {
	// Metadata that culvert sets, in place of the client's. Reserved names are
	// errors.
	Set []MetadataValue `key:"set"`

	// Names of metadata that culvert removes.
	Remove []string `key:"remove" is:"metadata name"`
}

// MetadataValue is one value of metadata.
type MetadataValue struct {
	// The name of the metadata.
	Name string `key:"name" is:"metadata name" needed:"true"`

	// Its value. "culvert config print" hides it.
	Value string `key:"value" is:"secret" needed:"true"`
}

// RouteRetry sends failed calls again. culvert does so only if the backend has sent
// neither a header nor a message, and the client no more than about 32KiB, of which
// each message takes 64 bytes more than its size. Set it for methods that may run
// twice.
type RouteRetry struct {
	// The maximum number of attempts (docs/guides/several-backends.md#retries). 0:
	// no retries of calls that the backend may have seen.
	Attempts int `key:"attempts" is:"attempts"`

	// The statuses after which culvert retries, besides calls that the backend
	// hasn't seen. Default: UNAVAILABLE.
	Codes []string `key:"codes" one:"CANCELLED,UNKNOWN,INVALID_ARGUMENT,DEADLINE_EXCEEDED,NOT_FOUND,ALREADY_EXISTS,PERMISSION_DENIED,RESOURCE_EXHAUSTED,FAILED_PRECONDITION,ABORTED,OUT_OF_RANGE,UNIMPLEMENTED,INTERNAL,DATA_LOSS,UNAUTHENTICATED,UNAVAILABLE"`

	// The pause before the second attempt, ±20 %. It doubles with each further
	// one. A backend can set it with grpc-retry-pushback-ms. Default: 100ms.
	Backoff time.Duration `key:"backoff"`

	// The maximum pause. Default: 1s.
	MaxBackoff time.Duration `key:"max_backoff"`
}

// RouteLimits are the limits of all calls of one route together, in addition to
// Limits.
type RouteLimits struct {
	// Concurrent calls; 0 is no limit.
	Calls int `key:"calls"`

	// Calls that start in a second; 0 is no limit.
	CallsPerSecond int `key:"calls_per_second"`

	// Bytes that compressed requests may expand to in a second; 0 is no limit.
	DecompressedBytesPerSecond Size `key:"decompressed_bytes_per_second" is:"size or 0"`

	// The largest message in each direction, if less than limits.message_bytes
	// and limits.methods allow.
	MessageBytes Size `key:"message_bytes"`

	// The metadata of one call in each direction, if less than
	// limits.header_bytes.
	HeaderBytes Size `key:"header_bytes"`
}

// checkRouteHost accepts "*", an address, a name, or a name whose first label is "*".
// Unlike package bridge, it wants a name that a host can have, and brackets in pairs.
func checkRouteHost(s string) error {
	name, bare := strings.TrimPrefix(s, "*."), s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		bare = s[1 : len(s)-1]
	}
	_, _, hasPort := rules.CutPort(name)
	_, err := netip.ParseAddr(bare)
	switch {
	case s == "*" || err == nil:
		return nil
	case name == "":
		return errors.New(`is empty: write "shop.example.com"`)
	case strings.Contains(name, "*"):
		return errors.New(`has a "*" that is not the first label: write "*.example.com"`)
	case hasPort:
		return errors.New("has a port, and hosts match on every port: remove it, and select a port by match.listeners")
	}
	return checkName(name)
}

// checkMessagePath accepts paths, also with names in braces at the end.
func checkMessagePath(s string) error {
	if s[0] != '/' || strings.ContainsAny(s, "?#% ") {
		return fmt.Errorf("is no path: write %q", "/ws/chat")
	}
	return nil
}
