// Package parts has the helpers for tests of several packages: waits with a bound,
// connections, a real backend, certificates. It imports no part of bridge, so that the
// tests of each leaf can use it.
package parts
