// Package oidctest tests the sources of keys and the judge of tokens against a real OpenID
// provider: github.com/zitadel/oidc/v3/pkg/op, on loopback with TLS. It is a module of its own,
// so that the program doesn't depend on the provider, and stands below auth, since the packages
// that it tests are internal to auth.
package oidctest
