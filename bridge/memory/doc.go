// Package memory counts what is held for clients, lets those wait for which there is no
// room, and chooses what ends for them. An [Account] bounds all together, an [Entry] is
// what one call or one connection holds, an [Address] is what one client address holds,
// a [Claim] is the room of one request message, and a [Candidate] is what may be ended.
//
// Begin with account.go. entry.go and ahead.go count, share.go and wait.go say who gets
// room, relief.go who gives it up.
//
// It is a leaf. Readers of requests, the connections to backends, quota and edge count
// with it; bridge/relief.go ends what it chooses.
package memory
