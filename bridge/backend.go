package bridge

import (
	"errors"
	"fmt"
	"reflect"

	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/bridge/upstream"
)

// A Backend describes where calls go.
type Backend = upstream.Backend

// A NamedBackend is one of the backends of a Server.
type NamedBackend struct {
	Name string // unique; logs and snapshots have it
	Backend
}

// DefaultBackend is the name of Config.Backend.
const DefaultBackend = report.DefaultBackend

var (
	errTwoForms     = errors.New("both Backend and Backends are set: move Backend into the list, with the name " + DefaultBackend)
	errNoWayToRoute = errors.New("several backends, none of them named " + DefaultBackend + ", and no routes that select one")
)

// backends returns the backends of a configuration in either form.
func (c *Config) backends() ([]NamedBackend, error) {
	switch {
	case len(c.Backends) == 0:
		return []NamedBackend{{DefaultBackend, c.Backend}}, nil
	case !reflect.ValueOf(c.Backend).IsZero():
		return nil, errTwoForms
	}
	names := make(map[string]bool, len(c.Backends))
	for i, b := range c.Backends {
		switch {
		case b.Name == "":
			return nil, fmt.Errorf("backend %d has no name", i)
		case names[b.Name]:
			return nil, fmt.Errorf("two backends have the name %q", b.Name)
		}
		names[b.Name] = true
	}
	return c.Backends, nil
}

// unrouted returns the name of the backend for calls that no route selects one for: the
// only backend, or the one named DefaultBackend.
func unrouted(backends []NamedBackend) (string, error) {
	if len(backends) == 1 {
		return backends[0].Name, nil
	}
	for _, b := range backends {
		if b.Name == DefaultBackend {
			return DefaultBackend, nil
		}
	}
	return "", errNoWayToRoute
}

// A HealthCheck says whether culvert asks a backend's connections for their health.
type HealthCheck = upstream.HealthCheck

// InProcess returns the Backend for a grpc.Server in this process, and a function that
// closes the way to it. The server is served until then. The caller stops the server.
func InProcess(s *grpc.Server) (Backend, func()) { return upstream.InProcess(s) }

// ErrNoReflection reports that the backend doesn't offer gRPC server reflection.
var ErrNoReflection = upstream.ErrNoReflection
