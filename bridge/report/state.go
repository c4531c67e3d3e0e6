package report

import "google.golang.org/grpc/connectivity"

// Connections is the number of a listener's connections of one kind.
type Connections struct {
	Listener  string // its name
	Transport string // "http/1.1", "h2", "websocket"; empty: no request has come yet, or Serve didn't accept it
	Open      int
	Tunnels   int // of these, WebSockets with HTTP/2 inside
}

// An UpstreamState is the state of a backend and its connections.
type UpstreamState struct {
	Name  string
	Conns connectivity.State // Ready: at least one connection is up
	Calls int                // calls that hold it

	// Draining reports that the backend was replaced or removed: it accepts no new
	// calls, and is closed after its last one.
	Draining bool

	LostPings int64          // connections so far that were closed because the backend answered no ping
	Retries   Retries        // of calls, so far
	Waiting   int            // calls that wait for a connection or a place
	Addresses []AddressState // as the backend's name resolves now, in the order of pick_first
}

// Retries counts attempts beside each call's first.
type Retries struct {
	ByPolicy  int64 // by the policies of routes
	Elsewhere int64 // to another address, because one had refused the call unseen. The attempts of grpc-go aren't counted
	Withheld  int64 // that a policy asked for while too many calls failed
}

// An AddressState is the state of one address of a backend.
type AddressState struct {
	Address   string
	Accepts   bool   // it gets new calls, unless pick_first prefers another one
	Unhealthy bool   // it doesn't, because the health check of a connection fails
	Failure   string // why an attempt to connect or the health check failed last; empty: it didn't. For the log and operators only

	Connections int   // that accept calls
	Places      int   // how many calls these can carry at once; -1: the backend sets no limit
	Calls       int   // that have a place, also on connections that accept no more
	Picks       int64 // calls that have got a place so far
}
