package bridge

import (
	"context"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/opamp"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A sessionDown is the client's end of a session's call. Thousands of these calls are idle
// nearly all of the time, so it is a parker.
type sessionDown struct {
	*opamp.Session
	call *call
}

// serveSession carries the call of a session until it parks.
func (s *Server) serveSession(d *sessionDown) {
	defer s.panics.Catch("a session", func(*report.Fault) { // before its call has begun, or behind its end
		d.Abort()
		d.call.held.Settle()
		d.call.arrived()
	})
	s.handle(context.Background(), d.call, d, nil, nil)
}

// Finish implements downstream.
func (d *sessionDown) Finish(st *status.Status, trailer metadata.MD) error {
	d.Reason = d.call.ending
	return d.Session.Finish(st, trailer)
}
