// Package tools pins the programs that culvert is checked and generated with,
// as tool directives of a module of its own: none of them is in the shipped
// program's graph. "go -C tools tool NAME" runs one.
//
// Its tests hold what the rest of the tree relies on and no other test sees:
// that each lint rule catches a breach, and that the container image would
// start.
package tools
