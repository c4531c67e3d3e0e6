// Package tunnelpb has the messages of the tunnel, and the service of the edge.
package tunnelpb

//go:generate ../generate.sh
