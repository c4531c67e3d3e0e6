// Package claims holds what docs/how-it-works/security.md promises, each claim with
// the tests that show it. Its tests write docs/how-it-works/appendix/claims.md and
// hold the page to the table; nothing here is in the program.
//
//   - table_test.go: the claims
//   - page_test.go: the page, and where each test is
package claims

//go:generate go test -count=1 -run ^TestClaimsPage$ . -update
