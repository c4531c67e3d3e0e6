// Package rules decides who may call what. It has pure functions of facts that others have
// found out: no clock, no credential, no configuration.
//
// Two questions are asked of a call, in this order:
//
//  1. Has it the credentials that it needs? Each way to authenticate (a JWT's issuer, API keys,
//     certificates) says what it found, and [Requirement.Judge] makes a [Verdict] of them:
//     need.go, which calls merge.go if several identities come together.
//  2. May this identity call this method? [Set.Decide] looks for a rule: decide.go.
//
// rule.go has a [Rule] and its checks, condition.go one condition of a rule, claims.go that
// of claims. The patterns are in identity.go and method.go, and origin.go has origins.
// explain.go says of each rule why it matches a call or doesn't.
//
// A deny rule always wins. Without allow rules, each identity may call everything that no rule
// denies. With allow rules, one must match. The order of the rules decides nothing but which of
// several names is in the log.
package rules
