// Package pathservice is what both ends of the service culvert.v1.Path must agree on. culvert
// answers it itself, so that clients can test their way to it: docs/reference/path.md. The client
// in pages has web/src/doctor/service.ts, which this package's test writes.
package pathservice

import "time"

// The service and its methods.
const (
	Name   = "culvert.v1.Path"
	Echo   = "/" + Name + "/Echo"   // bidirectional: each message comes back as it is
	Ticks  = "/" + Name + "/Ticks"  // google.protobuf.Empty to a stream of them
	Report = "/" + Name + "/Report" // google.protobuf.Empty to google.protobuf.Struct
)

// Ticks sends so many messages, one every TickInterval, the first one at once.
const (
	TickMessages = 4
	TickInterval = 400 * time.Millisecond
)

// Where the doctor is on, Echo takes messages of so many bytes, and so many of them in a call: 1 MiB,
// which is nginx's limit of a body.
const (
	LargeMessage  = 64 << 10
	LargeMessages = 16
)

// Parts of culvert's refusals that a client knows them by: their reasons have more meanings.
const (
	NoCallsBy   = "this address accepts no calls by " // NO_ROUTE
	UnknownHost = "doesn't know the name in Host"     // ORIGIN_DENIED
)

// CallsPerSecond is how many calls culvert takes from one address.
const CallsPerSecond = 20
