// Package opatest tests external authorization with a service that judges by OPA's library, as
// OPA's plugin for Envoy does. It is a module of its own, since OPA needs much that culvert
// doesn't.
package opatest
