// Package memory counts what is held for clients, and has those wait for which there
// is no room. An [Account] bounds all together, an [Entry] is what one call or one
// connection holds, an [Address] is what one client address does, and a [Claim] is
// the room of one request message.
//
// It is a leaf: readers of requests and the windows towards backends ask it.
package memory
