package bridge

import (
	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/bridge/upstream"
)

// A Backend describes where calls go.
type Backend = upstream.Backend

// InProcess returns the Backend for a grpc.Server in this process, and a function that
// closes the way to it. The server is served until then. The caller stops the server.
func InProcess(s *grpc.Server) (Backend, func()) { return upstream.InProcess(s) }

// ErrNoReflection reports that the backend doesn't offer gRPC server reflection.
var ErrNoReflection = upstream.ErrNoReflection
