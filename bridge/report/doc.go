// Package report defines how culvert reports events:
//
//   - to a client: a [Fault] is why culvert itself ended a call, and becomes the
//     client's status. Its [Reason] is a row of the table of [Reasons].
//   - to the operator: [Refusals] logs refusals by a rule or a limit, with the
//     configuration key that decides.
//   - to an [Observer]: the source of logs, metrics and traces.
//
// It is a leaf: calls, connections and upstreams share these definitions and nothing
// else.
package report
