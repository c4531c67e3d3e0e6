// Package jwt judges bearer tokens that are signed JWTs (RFC 7519), by the rules of RFC 8725.
// Read it in this order:
//
//   - options.go: the issuers whose tokens count, and what their tokens must say.
//   - parse.go: a token's text as header and claims, before anything of it is believed.
//   - claims.go, and package claim: what claims must say, and what becomes of them.
//   - confirm.go: tokens that only the holder of a certificate may use (cnf).
//   - token.go: what a caller learns of a good token. error.go: why a token is refused.
//   - judge.go: the way of a token through all of these.
//   - flight.go: tokens that arrive several times at once are verified once.
//   - verdicts.go: what was found about a token, as package cache keeps it.
//
// The package starts no goroutine. A new token is verified on the goroutine of the first caller
// that brings it; others with the same token wait for that one.
//
// A Judge doesn't change. To change options, make another one: it has no verdicts yet.
package jwt
