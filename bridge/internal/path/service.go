package path

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/pathservice"
)

// The service and its methods.
const (
	Name   = pathservice.Name
	Echo   = pathservice.Echo
	Ticks  = pathservice.Ticks
	Report = pathservice.Report

	Session = "culvert.v1.Session" // a service of its own: docs/reference/session.md
	Refresh = "/" + Session + "/Refresh"
)

// The quotas of one address and of all together. A client that is refused has still learned
// that its way carries gRPC.
var (
	ofAddress = report.Quota{Calls: 64, CallsPerSecond: pathservice.CallsPerSecond}
	ofAll     = report.Quota{Calls: 1024, CallsPerSecond: 200}
)

// Options are what a Service needs from its server.
type Options struct {
	Log         *slog.Logger
	Panics      *report.Panics
	Words       report.Words
	Account     *memory.Account
	HeaderBytes int // of a block of metadata
}

// A Service is culvert.v1.Path. Its server starts with the first call. Its methods may be
// called concurrently.
type Service struct {
	o      Options
	quotas *quota.Limiter
	own    *upstream.Set // has the server as an upstream, once it has started

	mu     sync.Mutex
	closed bool
	stop   func() // stops the server; nil: it hasn't started
}

// New returns a Service. Close ends what its first call starts.
func New(o Options) *Service {
	return &Service{o: o, quotas: quota.New(ofAll, ofAddress, false, nil), own: upstream.NewSet()}
}

// Acquire returns the service as the upstream of one call, which must release it.
func (s *Service) Acquire() (*upstream.Upstream, error) {
	if s.own.Get(Name) == nil {
		if err := s.start(); err != nil {
			return nil, report.New(report.ReasonInternal, "internal error").Because(err)
		}
	}
	return s.own.Acquire(Name, 0)
}

// start starts the server, unless it runs or the Service is closed.
func (s *Service) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.stop != nil {
		return nil
	}
	server := s.newServer()
	backend, disconnect := upstream.InProcess(server)
	stop := func() {
		disconnect()
		server.Stop()
	}
	backend.Logger, backend.Descriptors = s.o.Log, described{}
	u, err := upstream.New(backend, report.SizeLimit{Bytes: Large.MessageBytes, Key: report.KeyDoctor}, s.o.HeaderBytes, s.o.Account, s.o.Panics)
	if err == nil {
		err = s.own.Put(Name, u)
	}
	if err != nil {
		stop()
		return err
	}
	s.stop = stop
	return nil
}

func (s *Service) newServer() *grpc.Server {
	return grpc.NewServer(grpc.ForceServerCodecV2(upstream.RawCodec{}), grpc.UnknownServiceHandler(s.handle), grpc.WaitForHandlers(true))
}

// Close ends the calls of the service and waits for them. It may be called again.
func (s *Service) Close() {
	s.mu.Lock()
	s.closed = true
	stop := s.stop
	s.mu.Unlock()
	s.own.Close()
	if stop != nil {
		stop()
	}
}

// handle serves a call of any method. The bridge has refused other methods.
func (s *Service) handle(_ any, stream grpc.ServerStream) (err error) {
	md, _ := metadata.FromIncomingContext(stream.Context()) // the bridge sets it
	defer func() {
		if f, ok := errors.AsType[*report.Fault](err); ok {
			err = f.In(s.o.Words).Status(value(md, "x-request-id"), false).Err()
		}
	}()
	defer s.o.Panics.Catch(Name, func(f *report.Fault) { err = f })
	use := s.quotas.Call(nil, nil, value(md, peerKey), nil)
	if err := use.Begin(""); err != nil {
		return refused(err)
	}
	defer use.End()
	switch method, _ := grpc.MethodFromServerStream(stream); method {
	case Refresh: // the bridge has renewed the credential
		return reply(stream, "")
	case Report:
		return reply(stream, value(md, reportKey))
	case Ticks:
		return tick(stream)
	}
	return echo(stream, BoundsFor(value(md, doctorKey) != ""))
}

func refused(err error) error {
	f := report.Newf(report.ReasonLimitExceeded, "too many calls of %s: it takes %d at once and %d in a second from each address, and %d and %d from all",
		Name, ofAddress.Calls, ofAddress.CallsPerSecond, ofAll.Calls, ofAll.CallsPerSecond)
	f.Remedy = "call again later; no key changes these limits"
	if over, ok := errors.AsType[*report.Fault](err); ok {
		f.Retry = over.Retry
	}
	return f
}

// value returns the value of metadata that the bridge sets, or "".
func value(md metadata.MD, name string) string {
	if values := md[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// Ending returns the error that ended a call of the service. The status that the service
// itself has made is culvert's own, and not a backend's.
func Ending(err error) error {
	up, ok := errors.AsType[upstream.Status](err)
	if !ok {
		return err
	}
	if up.Code() == codes.DeadlineExceeded && len(up.Details()) == 0 {
		return context.DeadlineExceeded // of the call: the service's end of it has only been faster
	}
	for _, detail := range up.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == report.ErrorDomain {
			return &ended{up.Status, report.Reason(info.GetReason())}
		}
	}
	return err
}

type ended struct {
	status *status.Status
	reason report.Reason
}

func (e *ended) Error() string { return fmt.Sprintf("%s: %s", Name, e.status.Message()) }

// End is asked where the bridge judges the end of a call.
func (e *ended) End() (*status.Status, report.Reason) { return e.status, e.reason }
