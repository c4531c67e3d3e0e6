package telemetry

import "slices"

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
	Labels []string // page_test.go has what they mean
}

// families are the rows of the table below, in their order.
var families []Family

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
	callDuration = family("rpc_server_call_duration_seconds", Histogram, "how long calls took", "rpc_system_name", "rpc_method", "rpc_status_code", "error_type")
	firstMessage = family("culvert_call_first_message_seconds", Histogram, "the time from a call's beginning to the backend's first message", "rpc_method")
	callsEnded   = family("culvert_calls_total", Counter, "calls that ended, by the client's status and by who made it", "listener", "transport", "rpc_status_code", "origin", "reason")
	openCalls    = family("culvert_open_calls", Gauge, "calls under way", "listener", "transport")
	messages     = family("culvert_messages_total", Counter, "messages that passed", "listener", "transport", "direction")
	messageBytes = family("culvert_message_bytes_total", Counter, "their bytes, without prefixes", "listener", "transport", "direction")
	blocked      = family("culvert_blocked_seconds_total", Counter, "how long calls waited because the receiver of a message accepted no more: the backend (in) or the client (out); culvert looks once a second", "listener", "transport", "direction")

	// By route and backend, without the method: their product would be too many series.
	routeDuration = family("culvert_route_call_duration_seconds", Histogram, "how long calls took that had a backend", "route", "backend")
	routeFirst    = family("culvert_route_first_message_seconds", Histogram, "the time from a call's beginning to the backend's first message", "route", "backend")
	routeCalls    = family("culvert_route_calls_total", Counter, "calls that ended; the backend is empty if culvert refused the call before it had one", "route", "backend", "rpc_status_code", "origin")
	routeBlocked  = family("culvert_route_blocked_seconds_total", Counter, "as culvert_blocked_seconds_total", "route", "backend", "direction")

	openByAge = family("culvert_open_calls_by_age", Gauge, "calls and requests to the web server under way, by age", "age")

	webRequests = family("culvert_web_requests_total", Counter, "requests to the web server that ended, by the client's HTTP status and by who answered", "listener", "http_status", "origin", "reason")

	connsBegan = family("culvert_connections_total", Counter, "connections that clients opened, and tunnels inside them", "listener", "kind")
	connsEnded = family("culvert_connections_ended_total", Counter, "connections and tunnels that ended, by the reason", "listener", "kind", "reason")
	openConns  = family("culvert_open_connections", Gauge, "open connections of clients; the transport is empty until the first request", "listener", "transport")
	lostPings  = family("culvert_lost_pings_total", Counter, "connections closed because the client answered no ping", "listener")

	refusals  = family("culvert_refusals_total", Counter, "refusals of calls and connections, by the key that decided; enforced is false for rules and limits that are only tried out", "reason", "key", "enforced")
	limitsHit = family("culvert_limits_hit_total", Counter, "calls and connections that a limit refused or ended, by the limit's key", "key")

	messageMemory      = family("culvert_message_memory_bytes", Gauge, "memory of held messages")
	messageMemoryLimit = family("culvert_message_memory_limit_bytes", Gauge, "the limit of that memory (limits.buffered_bytes)")
	clientMemory       = family("culvert_client_memory_bytes", Gauge, "memory that clients use, messages included")
	clientMemoryLimit  = family("culvert_client_memory_limit_bytes", Gauge, "the limit of that memory (limits.memory); 0: none")
	evictedCalls       = family("culvert_evicted_calls_total", Counter, "calls ended because others needed the memory")

	droppedValues = family("culvert_metadata_dropped_values_total", Counter, "clients' values that culvert dropped, because they aren't printable ASCII; at debug, the log has the names")
	panics        = family("culvert_panics_total", Counter, "recovered panics, each of which is a defect; the log has their stacks")

	backendConnected = family("culvert_backend_connected", Gauge, "1 if a connection to the backend is up, else 0", "backend")
	backendAddrs     = family("culvert_backend_addresses", Gauge, "addresses of the backend, by state", "backend", "state")
	backendWaiting   = family("culvert_backend_waiting_calls", Gauge, "calls that wait for a connection, or for a place on one", "backend")
	backendLostPings = family("culvert_backend_lost_pings_total", Counter, "connections closed because the backend answered no ping", "backend")
	backendRetries   = family("culvert_backend_retries_total", Counter, "calls that culvert sent again, or didn't because too many calls of the backend failed", "backend", "outcome")
	backendCalls     = family("culvert_backend_calls", Gauge, "calls that use the backend, also a replaced one until its last call ends", "backend")

	certificateExpiry = family("culvert_certificate_not_after_timestamp_seconds", Gauge, "when a certificate in use expires, in Unix time, by its file, or by its first name if it has no file; none for tls.acme.on_demand", "certificate")

	reloads         = family("culvert_config_reloads_total", Counter, "attempts to reload the configuration", "result")
	reloadSucceeded = family("culvert_config_last_reload_successful", Gauge, "1 if the newest configuration is in use, 0 if it was rejected")
	configSince     = family("culvert_config_applied_timestamp_seconds", Gauge, "since when the configuration is in use, in Unix time")
	configInfo      = family("culvert_config_info", Gauge, "1, with the version of the configuration in use", "version")

	otlpExported = family("culvert_otlp_exported_total", Counter, "spans, values of metrics and lines of the log that a receiver accepted; none if otlp names no receiver", "signal")
	otlpDropped  = family("culvert_otlp_dropped_total", Counter, "those dropped: the queue was full, or the receiver was gone, too slow, or refused them", "signal", "cause")

	draining    = family("culvert_draining", Gauge, "1 if culvert accepts no new calls, else 0")
	droppedLogs = family("culvert_log_lines_dropped_total", Counter, "log lines dropped because nobody read the log")
	buildInfo   = family("culvert_build_info", Gauge, "1, with the version of culvert and of Go", "version", "go_version")
)
