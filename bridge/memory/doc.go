// Package memory counts the message bytes that calls hold, and has those wait for
// which there is no room. A [Budget] bounds all calls together, a [Ledger] is the
// account of one call, and a [Claim] is the room of one request message.
//
// It is a leaf: readers of requests and the windows towards backends ask it.
package memory
