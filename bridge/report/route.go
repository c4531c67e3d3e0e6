package report

import "fmt"

// A Match has a route's conditions, which must all be true. An empty list, or an
// empty prefix, matches every request. One entry of a list must match; of Metadata
// all must.
type Match struct {
	Hosts      []string // "shop.example.com", "*.example.com" for all names below it, "*"
	PathPrefix string   // "/team-a": whole elements of the path
	Methods    []string // patterns: "shop.v1.Orders/*", where * stands for any part without a slash
	Metadata   []Condition
	Listeners  []string // names
	Transports []string // names, as the bridge has them
}

// A Condition is true if a request has metadata of the name. If Value isn't empty, the
// request must have the name once, with this value.
type Condition struct{ Name, Value string }

// A Target is a backend with its share of a route's calls.
type Target struct {
	Backend string
	Weight  int // relative to the other weights; 0: no calls
}

// A RouteMistake is an error in a route.
type RouteMistake struct {
	Route int    // its index
	Key   string // the key within the route: "match.hosts[1]"
	Text  string // continues a sentence that begins with the key
	Other int    // the index of the route that matches the same, or -1
}

func (m *RouteMistake) Error() string { return fmt.Sprintf("routes[%d].%s %s", m.Route, m.Key, m.Text) }

// A Candidate is what became of a route for a request.
type Candidate struct {
	Route   int  // its index
	Matches bool // it matches the request

	// Key is the key that decided against the route: if it matches, the criterion by
	// which the winner is more specific, or "order" if the winner comes first; if it
	// doesn't, the first condition that fails. The winner has none.
	Key string
}

// OrderOfRoutes is the Key of a Candidate that differs from the winner only in its place.
const OrderOfRoutes = "order"

// A Shadow is a route that no request gets.
type Shadow struct {
	Route int
	By    int // the index of a route that gets its requests, or -1: no way in has them
}

// A Way is a listener and a transport that it accepts, by their names.
type Way struct{ Listener, Transport string }
