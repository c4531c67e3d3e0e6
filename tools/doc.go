// Package tools pins the programs that check culvert and generate its files, as
// tool directives of a module of its own: none of them is in the shipped program's
// graph. "go -C tools tool NAME" runs one.
//
// Its tests check facts that no other test covers: that each lint rule catches a
// breach, and that the container image would start.
package tools
