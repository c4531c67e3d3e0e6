package client

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/internal/terminal"
)

// A Way is how calls reach an edge.
type Way string

// The ways, the best one first.
const (
	GRPC      Way = "grpc"      // HTTP/2
	WebSocket Way = "websocket" // HTTP/2 inside a WebSocket: the subprotocol h2ts
	GRPCWeb   Way = "grpc-web"  // gRPC-Web over HTTP/1.1
)

// auto lets the client find a way.
const auto Way = "auto"

var ways = []Way{GRPC, WebSocket, GRPCWeb}

// ParseWay parses "auto", which is returned as "", or the name of a way.
func ParseWay(s string) (Way, error) {
	w := Way(s)
	switch {
	case w == auto:
		return "", nil
	case slices.Contains(ways, w):
		return w, nil
	}
	return "", fmt.Errorf("the way %q isn't known: use %s, %s, %s or %s", s, auto, GRPC, WebSocket, GRPCWeb)
}

// order returns the ways in the order in which they are tried: the one that is known to work
// first. One that went silent goes behind the other that has pings, and before gRPC-Web, which
// has none: to servers other than culvert, the next silence could last until the call's deadline.
func order(pinned Way, known lesson) []Way {
	if pinned != "" {
		return []Way{pinned}
	}
	rank := func(w Way) int {
		switch {
		case w == known.silent:
			return 1
		case w == GRPCWeb && known.silent != "":
			return 2
		case w == known.way:
			return -1
		}
		return 0
	}
	all := slices.Clone(ways)
	slices.SortStableFunc(all, func(a, b Way) int { return rank(a) - rank(b) })
	return all
}

// A wayError is why a way doesn't lead to the edge.
type wayError struct {
	way Way
	err error
}

// maxWayError bounds the text of the error of a way, in bytes.
const maxWayError = 1 << 10

// ownAddress is in net's errors, with another port for each connection.
var ownAddress = regexp.MustCompile(`\S+->`)

// Error is printable: boxes on the way have a part in it. It has the same text for each attempt.
func (e *wayError) Error() string {
	return string(e.way) + ": " + terminal.Short(ownAddress.ReplaceAllString(e.err.Error(), ""), maxWayError)
}

func (e *wayError) Unwrap() error { return e.err }

// A noWayError is why no way leads to the edge.
type noWayError struct {
	edge string
	ways []error // *wayError
}

func (e *noWayError) Error() string {
	var causes []string
	failed := map[string][]string{} // ways, by their cause. Most fail alike: with the name, the proxy or the certificate
	inOrder := slices.SortedStableFunc(slices.Values(e.ways), func(a, b error) int { return place(a) - place(b) })
	for _, err := range inOrder {
		way, cause, _ := strings.Cut(err.Error(), ": ")
		if failed[cause] == nil {
			causes = append(causes, cause)
		}
		failed[cause] = append(failed[cause], way)
	}
	for i, cause := range causes {
		names := strings.Join(failed[cause], ", ")
		if at := strings.LastIndex(names, ", "); at >= 0 {
			names = names[:at] + " and " + names[at+len(", "):]
		}
		causes[i] = names + ": " + cause
	}
	return "no way to " + e.edge + " works: " + strings.Join(causes, "; ")
}

// place returns where the way that an error begins with stands among all.
func place(err error) int {
	way, _, _ := strings.Cut(err.Error(), ": ")
	return slices.Index(ways, Way(way))
}

func (e *noWayError) Unwrap() []error { return e.ways }
