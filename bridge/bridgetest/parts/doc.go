// Package parts has what tests of several packages below bridge need: waits with a
// bound, connections, a real backend, certificates. It imports nothing that bridge
// consists of, so that the tests of each leaf can use it.
package parts
