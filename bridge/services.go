package bridge

import (
	"context"
	"slices"
)

// Services asks the backend of that name by server reflection which services it offers. It returns
// two sorted lists: open, the services whose calls may cross, and unnamed, those that
// neither AllowMethods nor DenyMethods names. unnamed leaves out reflection, health
// and services that show a backend's inside.
// Services waits for a backend that isn't up yet until the context ends.
func (s *Server) Services(ctx context.Context, backend string) (open, unnamed []string, err error) {
	u, err := s.upstreams.Borrow(backend)
	if err != nil {
		return nil, nil, err
	}
	defer u.Return()
	policy := s.policy.Load().router.policy
	names, err := u.Services(ctx)
	if err != nil {
		return nil, nil, s.cfg.Words.Err(err)
	}
	for _, name := range names {
		switch {
		case policy.Exposes(name):
			open = append(open, name)
		case !policy.LeavesOut(name):
			unnamed = append(unnamed, name)
		}
	}
	slices.Sort(open)
	slices.Sort(unnamed)
	return open, unnamed, nil
}
