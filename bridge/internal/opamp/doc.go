// Package opamp lets an OpAMP agent that polls over plain HTTP have a call that streams.
// The call stays open between the polls, and its client is a [Session]: each poll leaves
// one message there and takes at most one reply along. A [Table] has the sessions of all
// agents, by scope, owner (the credentials of the first poll) and the agent's instance id.
//
// Begin with table.go, which finds, opens and replaces sessions. state.go has the states of a
// session's two sides, poll.go what one poll waits for, session.go the side of the call,
// expiry.go the end of sessions that nobody polls, and share.go the places of addresses.
// answer.go has what agents are told of errors, on any way.
//
// # Who waits for whom
//
// Polls run on the goroutines of their HTTP requests. They have the call start the goroutines
// that pass on a message and receive a reply, for which the call waits: an idle session has
// none. One timer of the table ends sessions; Close waits for its function.
//
// It is a leaf: it knows no calls, and bridge starts them.
// https://opentelemetry.io/docs/specs/opamp/#plain-http-transport
package opamp
