// Package report has the types that culvert and its embedders share. Embedders set the
// parts of bridge.Config: [Backend] (backend.go), [Listener], [Limits], [Match],
// [MessageRoute]. culvert reports:
//
//   - to a client: a [Fault] is why culvert itself ended a call, and becomes the
//     client's status (fault.go). Its [Reason] is a row of the table of [Reasons]
//     (reasons.go). keys.go has the configuration keys that a text names.
//   - to the operator: [Refusals] logs refusals by a rule or a limit, with the
//     configuration key that decides (refusals.go). [Panics] logs panics (panics.go).
//   - to an [Observer]: the source of logs, metrics and traces (observe.go; web.go: requests
//     to the web server). guard.go catches its panics, and those of a logger.
//   - on request: state.go has parts of bridge.Snapshot.
//
// It is a leaf: calls, connections and upstreams share these definitions and nothing
// else.
package report
