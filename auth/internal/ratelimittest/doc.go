// Package ratelimittest tests limits of several replicas with Envoy's rate limit service,
// github.com/envoyproxy/ratelimit, and Debian's Redis. It is a module of its own, since the
// service needs much that culvert doesn't.
package ratelimittest
