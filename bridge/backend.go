package bridge

import (
	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/bridge/upstream"
)

// A Backend is where calls go.
type Backend = upstream.Backend

// InProcess returns the Backend for a grpc.Server in this process, and a
// function that closes the way to it. The server is served until then; it
// stays the caller's to stop.
func InProcess(s *grpc.Server) (Backend, func()) { return upstream.InProcess(s) }

// ErrNoReflection says that the backend doesn't offer gRPC server reflection.
var ErrNoReflection = upstream.ErrNoReflection
