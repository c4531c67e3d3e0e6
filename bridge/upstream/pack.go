package upstream

import (
	grpcgzip "google.golang.org/grpc/encoding/gzip" // without it a compressed reply is INTERNAL

	"github.com/culvert-grpc/culvert/bridge/packing"
)

// grpc-go has one level for the process. It has to be set before the first message,
// by an init function. One of a program that embeds culvert runs after this one, and
// may set another.
func init() {
	if err := grpcgzip.SetLevel(packing.Level); err != nil {
		panic("BUG: " + err.Error())
	}
}
