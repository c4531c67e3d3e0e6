// Package report has the words in which culvert says what happened, and to whom:
//
//   - to a client: a [Fault] is why culvert itself ended a call, and becomes the
//     status that the client gets. Its [Reason] is a row of the table of [Reasons].
//   - to the operator: [Refusals] logs what a rule or a limit has refused, with the
//     configuration key that decides.
//   - to an [Observer]: what logs, metrics and traces are made of.
//
// It is a leaf: calls, connections and upstreams share these words and nothing
// else.
package report
