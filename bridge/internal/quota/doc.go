// Package quota counts and limits the usage of clients. A [Scope] has the clients
// that share a limit: one address, one listener, the methods that match a pattern,
// all clients. A [Limiter] lets a [Conn] or a [Call] begin if each of its scopes has
// room. A refused one uses no quota of any of them.
//
// It is a leaf: connections count here when they are accepted, and calls when they
// are admitted. It knows neither.
package quota
