// Package binding describes routes of bare messages, which bind a path to a method and a
// framing, and checks them. Its functions are pure: they know no calls.
//
//   - route.go: what a Route has, and the framings
//   - check.go: which Routes can't work, and why
package binding
