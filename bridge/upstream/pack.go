package upstream

import (
	"compress/gzip"

	grpcgzip "google.golang.org/grpc/encoding/gzip" // without it a compressed reply is INTERNAL
)

// PackLevel is the level at which culvert compresses what came compressed. The
// sender chooses the bytes, and so what packing them costs: at gzip's own default
// some take fifty times as long as at this level, which looks for no longer match
// than the first that it finds.
const PackLevel = gzip.BestSpeed

// grpc-go has one level for the process. It has to be set before the first message,
// by an init function. One of a program that embeds culvert runs after this one, and
// may set another.
func init() {
	if err := grpcgzip.SetLevel(PackLevel); err != nil {
		panic("BUG: " + err.Error())
	}
}
