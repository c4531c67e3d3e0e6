// Package quota counts and rates what clients use. A [Scope] is everybody who
// shares a limit: one address, one listener, the methods that match a pattern, all
// clients. A [Limiter] lets a [Conn] or a [Call] begin if each of its scopes has
// room. A refused one takes nothing from any of them.
//
// It is a leaf: connections count here when they are accepted, and calls when they
// are admitted. It knows neither.
package quota
