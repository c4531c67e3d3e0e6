// Package rules has the rules for values that a configuration file and package bridge
// share: their grammar, bounds, defaults and names. Pure functions. Package config words
// its own errors.
package rules

// AttemptsRange continues a sentence that begins with what WrongAttempts refuses.
const AttemptsRange = "is out of range: write 2 to 5, or 0 for no retries"

// WrongAttempts reports whether a route can't have n attempts for a call. gRFC A6.
func WrongAttempts(n int) bool { return n != 0 && (n < 2 || n > 5) }
