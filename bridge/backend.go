package bridge

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/bridge/internal/reflection"
	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Backend describes where calls go.
type Backend = report.Backend

// A NamedBackend is one of the backends of a Server.
type NamedBackend struct {
	Name string // unique; logs and snapshots have it
	Backend

	// MaxCalls bounds the calls at once. Calls of an upstream that Apply has replaced
	// don't count. If it isn't positive, there is no bound.
	MaxCalls int
}

// A TLSSource has the configuration for the next connection to a backend.
type TLSSource = report.TLSSource

// A DescriptorSource has the descriptors of a backend's methods.
type DescriptorSource = report.DescriptorSource

// Descriptors are those of methods.
type Descriptors = report.Descriptors

// DefaultBackend is the name of Config.Backend.
const DefaultBackend = report.DefaultBackend

var errNoWayToRoute = errors.New("several backends, none of them named " + DefaultBackend + ", and no routes that select one")

// backends returns the backends of a configuration in either form.
func (c *Config) backends() ([]NamedBackend, error) {
	switch {
	case len(c.Backends) == 0:
		return []NamedBackend{{Name: DefaultBackend, Backend: c.Backend}}, nil
	case !reflect.ValueOf(c.Backend).IsZero():
		return nil, errors.New("both Backend and Backends are set: move Backend into the list, with the name " + DefaultBackend)
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
	if slices.ContainsFunc(backends, func(b NamedBackend) bool { return b.Name == DefaultBackend }) {
		return DefaultBackend, nil
	}
	return "", errNoWayToRoute
}

// maxCalls returns the bounds on calls by backend.
func maxCalls(backends []NamedBackend) map[string]int {
	most := make(map[string]int)
	for _, b := range backends {
		if b.MaxCalls > 0 {
			most[b.Name] = b.MaxCalls
		}
	}
	return most
}

// A HealthCheck says whether culvert asks a backend's connections for their health.
type HealthCheck = report.HealthCheck

// A backendChange replaces the upstreams of a Server by those of a configuration.
// Upstreams whose backend is the same stay as they are, unless grpc-go's limit of a
// block of metadata is another one.
type backendChange struct {
	upstreams *upstream.Set
	to        map[string]Backend
	made      map[string]*upstream.Upstream // for new names, and for names whose backend differs
	gone      map[string]*upstream.Upstream
}

// changeBackends makes the upstreams that a configuration adds and replaces, and has new
// calls go to them. limits are its own, with their defaults. s.applying is held, except
// while the Server is being made.
func (s *Server) changeBackends(cfg *Config, limits *Limits) (*backendChange, error) {
	backends, err := cfg.backends()
	if err != nil {
		return nil, err
	}
	c := &backendChange{upstreams: s.upstreams, to: make(map[string]Backend, len(backends)), made: make(map[string]*upstream.Upstream), gone: make(map[string]*upstream.Upstream)}
	messages := report.SizeLimit{Bytes: limits.MessageBytes, Key: report.KeyMessageBytes}
	for _, b := range backends {
		before, known := s.backends[b.Name]
		c.to[b.Name] = b.Backend
		if known && upstream.Same(before, b.Backend) && s.policy.Load().limits.HeaderBytes == limits.HeaderBytes {
			continue
		}
		if b.Logger == nil {
			b.Logger = s.log.With("backend", b.Name)
		} else {
			b.Logger = s.cfg.Words.Log(s.panics.GuardLog(b.Logger))
		}
		c.made[b.Name], err = upstream.New(b.Backend, messages, limits.HeaderBytes, s.account, s.panics)
		if err != nil {
			delete(c.made, b.Name)
			c.drop()
			if len(backends) > 1 {
				err = fmt.Errorf("backend %q: %w", b.Name, err)
			}
			return nil, err
		}
	}
	for name := range s.backends {
		if _, stays := c.to[name]; !stays {
			c.gone[name] = s.upstreams.Get(name)
		}
	}
	return c, c.begin()
}

// begin has new calls go to the upstreams made. It fails only if the Server is closed.
// The upstreams that are gone stay until end, for calls that have the policy before.
func (c *backendChange) begin() error {
	for name, u := range c.made {
		if err := c.upstreams.Put(name, u); err != nil {
			c.drop()
			return err
		}
		delete(c.made, name)
	}
	return nil
}

// end removes the upstreams that are gone: each closes after its last call. One whose
// name a later change has taken is out of the Set already.
func (c *backendChange) end() {
	for name, u := range c.gone {
		_ = c.upstreams.Remove(name, u) // only that the Set has it no more
	}
}

// drop closes the upstreams that didn't begin.
func (c *backendChange) drop() {
	for _, u := range c.made {
		_ = u.Close() // no call has it
	}
}

// A Retry says when a call is sent again.
type Retry = report.Retry

// InProcess returns the Backend for a grpc.Server in this process, and a function that
// closes the way to it. The server is served until then. The caller stops the server.
func InProcess(s *grpc.Server) (Backend, func()) { return upstream.InProcess(s) }

// ErrNoReflection reports that the backend doesn't offer gRPC server reflection.
var ErrNoReflection = reflection.ErrNoReflection
