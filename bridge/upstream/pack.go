package upstream

import (
	grpcgzip "google.golang.org/grpc/encoding/gzip" // without it a compressed reply is INTERNAL

	"github.com/culvert-grpc/culvert/bridge/packing"
)

// grpc-go has one level for the process. It must be set before the first message, by
// an init function. The init function of a program that embeds culvert runs after
// this one, and may set another level.
func init() {
	if err := grpcgzip.SetLevel(packing.Level); err != nil {
		panic("BUG: " + err.Error())
	}
}
