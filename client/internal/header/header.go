// Package header parses the header fields that people give to calls, with -H.
package header

import (
	"fmt"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/codec"
)

// Parse returns fields by their names in lower case. Lines are a name, a colon and a value. An error
// has no value: it may be a secret.
func Parse(lines []string) (map[string][]string, error) {
	fields := map[string][]string{}
	for i, line := range lines {
		name, v, found := strings.Cut(line, ":")
		name, v = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(v)
		switch {
		case !found || !codec.ValidName(name):
			return nil, fmt.Errorf("header %d isn't a name, a colon and a value: write 'x-user: alice'", i+1)
		case !codec.ValidValue(v):
			return nil, fmt.Errorf("the value of %s has characters that a header can't have: use a name that ends in -bin, and base64", name)
		case slices.Contains(reserved, name) || strings.HasPrefix(name, "sec-") || strings.HasPrefix(name, "connect-"):
			return nil, fmt.Errorf("%s belongs to the protocol: %s", name, instead(name))
		}
		fields[name] = append(fields[name], v)
	}
	_, err := codec.DecodeMetadata(fields)
	return fields, err
}

// reserved are names that the protocols set themselves.
var reserved = []string{
	"host", "origin", "content-type", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer",
	"grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "grpc-status", "grpc-message", "user-agent", "accept-encoding", "content-encoding",
	"x-grpc-web",
}

// instead says what to use in place of a reserved header.
func instead(name string) string {
	switch name {
	case "host":
		return "use the name in the URL, and --connect for the address"
	case "origin":
		return "use --origin"
	case "grpc-timeout", "connect-timeout-ms":
		return "use --max-time of call"
	}
	return "leave it out"
}
