// Package jwk keeps the public keys of a token's issuer. Read it in this order:
//
//   - key.go: one key of a set: what culvert takes, and why it skips the others.
//   - set.go: a set of keys as its issuer publishes it, and which keys may have signed a token.
//   - discovery.go: the metadata of an OpenID provider, which names the place of its keys.
//   - fetch.go: one fetch of a document, bounded in bytes, time and redirects.
//   - source.go: where a set comes from, when it is fetched again, and what callers wait for.
//
// A Source of a URL has one goroutine, from Open to Close, which makes all its fetches, one
// after the other. Callers only read the set in use, or wait for a fetch with a bound. The last
// good keys stay in use while fetches fail.
//
// A Key of two consecutive sets is the same pointer. Once a set without it is in use, Removed
// reports true, so a verdict that was reached with the key can be dropped without a lookup.
package jwk
