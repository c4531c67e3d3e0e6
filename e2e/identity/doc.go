// Package identity tests the guides in docs/guides/auth from outside: the configuration of each
// page, with other paths and addresses, between real clients and what judges them: an OpenID
// provider, OPA's library, a web application. It is a module of its own, since these bring much.
//
// CULVERT_BIN names the program to test; without it, ../../cmd/culvert is built.
package identity
