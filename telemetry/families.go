package telemetry

import (
	"slices"
	"strconv"
)

// A Kind is what the values of a metric are.
type Kind string

// The kinds, as Prometheus names them.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// A Family is one metric: its name, its kind, its labels in order, and what it
// measures. The collectors, the page docs/reference/metrics.md, and the check of the
// dashboard and the alerts are all made from it.
type Family struct {
	Name   string
	Kind   Kind
	Help   string
	Labels []string
}

// families are the rows of the table below, in their order.
var families []Family

// family adds a row to the table.
func family(name string, kind Kind, help string, labels ...string) Family {
	f := Family{name, kind, help, labels}
	families = append(families, f)
	return f
}

// Families returns the table of culvert's metrics.
func Families() []Family { return slices.Clone(families) }

// The table. The first metric is OpenTelemetry's: Prometheus writes rpc.server.call.duration, whose
// unit is s, as rpc_server_call_duration_seconds.
// https://opentelemetry.io/docs/specs/semconv/rpc/rpc-metrics/
var (
	callDuration = family("rpc_server_call_duration_seconds", Histogram, "how long calls took, from their beginning to their end", "rpc_system_name", "rpc_method", "rpc_status_code", "error_type")
	firstMessage = family("culvert_call_first_message_seconds", Histogram, "the time from the beginning of a call to the backend's first message", "rpc_method")
	callsEnded   = family("culvert_calls_total", Counter, "calls that ended, by the status that the client got and by who made it", "listener", "transport", "rpc_status_code", "origin", "reason")
	openCalls    = family("culvert_open_calls", Gauge, "calls under way", "listener", "transport")
	messages     = family("culvert_messages_total", Counter, "messages that passed", "listener", "transport", "direction")
	messageBytes = family("culvert_message_bytes_total", Counter, "bytes of the messages that passed, without prefixes", "listener", "transport", "direction")
	blocked      = family("culvert_blocked_seconds_total", Counter, "how long calls waited because the receiver of a message accepted no more: the backend (in) or the client (out); culvert looks once a second", "listener", "transport", "direction")

	webRequests = family("culvert_web_requests_total", Counter, "requests to the web server that ended, by the HTTP status that the client got and by who answered", "listener", "http_status", "origin", "reason")

	connsBegan = family("culvert_connections_total", Counter, "connections that clients opened, and tunnels inside them", "listener", "kind")
	connsEnded = family("culvert_connections_ended_total", Counter, "connections and tunnels that ended, by the reason", "listener", "kind", "reason")
	openConns  = family("culvert_open_connections", Gauge, "open connections of clients; the transport is empty until the first request", "listener", "transport")
	lostPings  = family("culvert_lost_pings_total", Counter, "connections of clients that were closed because the client answered no ping", "listener")

	refusals  = family("culvert_refusals_total", Counter, "refusals of calls and connections by a rule or a limit, by the key that decided; enforced is false for rules and limits that are only tried out", "reason", "key", "enforced")
	limitsHit = family("culvert_limits_hit_total", Counter, "calls and connections that a limit refused or ended, by the limit's key", "key")

	messageMemory      = family("culvert_message_memory_bytes", Gauge, "memory of held messages")
	messageMemoryLimit = family("culvert_message_memory_limit_bytes", Gauge, "the limit of that memory (limits.buffered_bytes)")
	clientMemory       = family("culvert_client_memory_bytes", Gauge, "memory that clients use, messages included")
	clientMemoryLimit  = family("culvert_client_memory_limit_bytes", Gauge, "the limit of that memory (limits.memory); 0: none")
	evictedCalls       = family("culvert_evicted_calls_total", Counter, "calls that were ended because others needed the memory")

	droppedValues = family("culvert_metadata_dropped_values_total", Counter, "values of metadata from clients that culvert dropped, because they aren't printable ASCII; at debug, the log has the names")
	panics        = family("culvert_panics_total", Counter, "panics that culvert has recovered, each of which is a defect; the log has their stacks")

	backendConnected = family("culvert_backend_connected", Gauge, "1 if a connection to the backend is up, else 0", "backend")
	backendAddrs     = family("culvert_backend_addresses", Gauge, "addresses of the backend, by state", "backend", "state")
	backendWaiting   = family("culvert_backend_waiting_calls", Gauge, "calls that wait for a connection to the backend, or for a place on one", "backend")
	backendLostPings = family("culvert_backend_lost_pings_total", Counter, "connections to the backend that were closed because it answered no ping", "backend")
	backendRetries   = family("culvert_backend_retries_total", Counter, "calls that culvert sent to the backend again, or that it didn't because too many calls of the backend failed", "backend", "outcome")
	backendCalls     = family("culvert_backend_calls", Gauge, "calls that use the backend, also a replaced one until its last call ends", "backend")

	certificateExpiry = family("culvert_certificate_not_after_timestamp_seconds", Gauge, "when a certificate in use expires, in Unix time, by its file, or by its first name if it has no file; none for tls.acme.on_demand", "certificate")

	reloads         = family("culvert_config_reloads_total", Counter, "attempts to reload the configuration", "result")
	reloadSucceeded = family("culvert_config_last_reload_successful", Gauge, "1 if the newest configuration is in use, 0 if it was rejected and an older one is in use")
	configSince     = family("culvert_config_applied_timestamp_seconds", Gauge, "since when the configuration is in use, in Unix time")
	configInfo      = family("culvert_config_info", Gauge, "1, with the version of the configuration in use", "version")

	draining    = family("culvert_draining", Gauge, "1 if culvert accepts no new calls, else 0")
	droppedLogs = family("culvert_log_lines_dropped_total", Counter, "log lines that were dropped because nobody read the log")
	buildInfo   = family("culvert_build_info", Gauge, "1, with the version of culvert and of Go", "version", "go_version")
)

// A label is a label of culvert's metrics and its meaning.
type label struct{ Name, Meaning string }

// labels has each label once.
var labels = []label{
	{"backend", "the backend's name; `default` for the one in `backend`"},
	{"certificate", "the certificate's file, or its first name"},
	{"direction", "`in`: from clients to backends; `out`: from backends to clients"},
	{"enforced", "`true`, or `false` for a rule that is only tried out"},
	{"error_type", "the status code, if the server is to blame for it: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE or DATA_LOSS; else empty"},
	{"go_version", "the version of Go that built culvert"},
	{"http_status", "the class of the HTTP status, such as `2xx`; `1xx` is a WebSocket, and `_OTHER` a number over 599. Empty if the client got no answer"},
	{"key", "the key of the configuration"},
	{"kind", "`connection`, or `tunnel` for HTTP/2 inside a WebSocket"},
	{"listener", "the listener's name; empty if there is one without a name"},
	{"origin", "the source of the status: `upstream` (the backend or the web server), `culvert`, or `client` (the client went away or cancelled)"},
	{"outcome", "`sent`: by the [retry](../guides/several-backends.md#retries) of a route; `elsewhere`: to another address, because one had refused the call unseen; `withheld`: not sent despite `retry`"},
	{"reason", "of calls, web requests and refusals: culvert's [reason](errors.md); of connections: why they ended, as in [the log](log.md#connections)"},
	{"result", "`applied` or `rejected`"},
	{"rpc_method", "the method, such as `shop.v1.Orders/Get`. `_OTHER` for methods that no backend has shown to know, and for those after the first " + strconv.Itoa(maxMethods)},
	{"rpc_status_code", "the status that the client got, such as `OK` or `NOT_FOUND`; `_OTHER` for a number without a name"},
	{"rpc_system_name", "always `grpc`"},
	{"state", "`accepts`: the address gets new calls; `unhealthy`: its health check fails; `down`: there is no connection"},
	{"transport", "of calls: the [client protocol](protocols.md), as in the log, or `web` for requests to the [web server](../guides/one-origin.md); of connections: `http/1.1`, `h2` or `websocket`"},
	{"version", "the version of culvert, or of its configuration"},
}
