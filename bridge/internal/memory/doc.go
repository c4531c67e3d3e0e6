// Package memory counts the memory held for clients, makes clients wait when there is
// no room, and chooses which calls and connections end:
//
//   - An [Account] bounds all memory together (limits.memory, and limits.buffered_bytes
//     for messages).
//   - An [Entry] is the memory of one call or one connection.
//   - An [Address] is the memory of one client address.
//   - A [Claim] is the room of one request message.
//   - A [Candidate] may be ended.
//
// Begin with account.go. entry.go and ahead.go count, and claim.go has the buffers of
// requests. address_share.go and wait.go decide who gets room, convert.go does so for conversions,
// and relief.go decides who gives room up.
//
// It is a leaf. Readers of requests, the connections to backends, quota and edge count
// with it. bridge/evict.go ends the candidates that relief.go chooses.
package memory
