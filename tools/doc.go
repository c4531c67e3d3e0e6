// Package tools pins the programs that check culvert and generate its files, as
// tool directives of a module of its own: none of them is in the shipped program's
// graph. tool.sh builds one and tells its path.
//
// Its tests check facts that no other test covers: that each lint rule catches a
// breach, that the container image would start, and that the manifests, the unit and
// the compose file fit the program.
package tools
