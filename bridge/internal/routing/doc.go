// Package routing selects a call's route. A [Table] has the routes in an index, so
// that a lookup costs about the same with one route and with 10,000. It takes the
// [Facts] of a request, and allocates nothing. A [Split] divides a route's calls
// among backends by weight. A [MethodPolicy] decides which methods cross.
//
// Some routes have no index: a lookup compares the call with each of them, if they
// differ in nothing but patterns of methods that begin with a wildcard, in the names of
// their metadata, or in the further conditions for metadata that share their first.
//
// To read it, begin with table.go: New, Find, and which route is more specific. conditions.go
// has a [Route], the Facts, and whether a request meets each condition; pattern.go has those
// of methods. index.go finds the entry without comparing them all. twins.go finds routes that
// match the same, and explain.go says why a request gets its route. path.go reads a request's
// path, message.go has the routes of bare messages, outgoing.go the methods that a
// backend can get, methods.go the MethodPolicy, and split.go the Split.
//
// It is a leaf of pure functions: it knows no calls, connections or backends.
//
// The most specific route wins. If several routes match a request, the first of these
// criteria that tells them apart decides:
//
//  1. host: an exact name, then the longest wildcard, then any host
//  2. path: the prefix with the most elements
//  3. method: an exact name, then all methods of a service, then the pattern with the
//     most literal characters, then any method
//  4. metadata: the most conditions
//  5. listener: a named listener, then any
//  6. transport: a named transport, then any
//  7. the order of the routes
package routing
