// Package probe is the agreement between the tests and their backend: the
// [Script] that a call carries in its metadata, the [Record] that the backend
// keeps of what it saw, the [Payload] that both can make and compare, and the
// [Control] that asks for the records from another process.
package probe
