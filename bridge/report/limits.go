package report

import "time"

// Limits bound what clients can make culvert hold or do. A zero field means its
// default; a negative one means no limit.
type Limits struct {
	MessageBytes        int           // of one message, either way. Default 16 MiB.
	HeaderBytes         int           // of one metadata block, either way, counted as HTTP/2 does. Default 64 KiB. Apply can't raise it above New's.
	BufferedBytes       int64         // of message bytes held for all calls together. Default 256 MiB.
	CallsPerConnection  int           // at once, on one HTTP/2 connection or tunnel. Default 100.
	Connections         int           // at once. Default: what the file-descriptor limit leaves.
	Calls               int           // at once. Default: no limit.
	CallsPerSecond      int           // that begin. Default: no limit.
	HandshakesPerSecond int           // WebSocket upgrades and, counted apart from them, TLS handshakes. Default: no limit.
	SlowConsumerTimeout time.Duration // how long a client may accept none of the data that is ready for it. Default 5 min.
	IdleTimeout         time.Duration // of a call without messages, ±10 % and up to 2 s more. Default: none.
	MaxAge              time.Duration // of a call, ±10 % and up to 2 s more. Default: none.

	SlowSenderTimeout     time.Duration // how long a client may take for a message's next KiB, or its end. Default 30 s.
	ConnectionIdleTimeout time.Duration // of a connection without a call. Default 60 s.
	ConnectionMaxAge      time.Duration // of a connection that takes new calls. Default: none.

	DecompressedPerSecond int   // bytes of decompressed requests. Default: 32 MiB for each CPU of GOMAXPROCS.
	WebRequests           int   // to the web server, at once. Default 1,000, and 500 of an address.
	Identity              Quota // of each identity that an Authenticator names: Calls and CallsPerSecond of it. Default: no limit.
	Address               Quota // of each client address: an IPv4 address or the first 64 bits of an IPv6 one. Default: generous, with 16 MiB of decompressed bytes for each CPU.
}

// A Quota bounds the usage of one address, or one listener, of a Server. A zero field
// means its default, which is no limit except for addresses (see
// bridge.DefaultLimits). A negative field means no limit. A limit by the second may
// be used up in one moment of it.
type Quota struct {
	Connections           int // at once
	Calls                 int // at once
	CallsPerSecond        int
	HandshakesPerSecond   int // WebSocket upgrades and, counted apart from them, TLS handshakes
	DecompressedPerSecond int // bytes of decompressed requests
	WebRequests           int // at once, to the web server; not of a method
}
