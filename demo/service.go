package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/culvert-grpc/culvert/demo/demopb"
)

const errorDomain = "demo.culvert"

// The metadata that the service echoes, see demo.proto.
const (
	echoPrefix        = "x-demo-"
	echoHeaderPrefix  = "x-demo-header-"
	echoTrailerPrefix = "x-demo-trailer-"
)

const (
	maxCountdown         = 10_000
	maxCountdownInterval = time.Minute
	maxSeats             = 8
	maxTextBytes         = 4 << 10
)

// NewServer returns a grpc-go server with the example service, health and
// reflection. It is an ordinary server and contains nothing specific to culvert.
func NewServer() *grpc.Server {
	return newServer(40 * time.Millisecond)
}

func newServer(tokenInterval time.Duration) *grpc.Server {
	s := grpc.NewServer(
		grpc.UnaryInterceptor(echoMetadataUnary),
		grpc.StreamInterceptor(echoMetadataStream),
	)
	demopb.RegisterDemoServer(s, &service{tokenInterval: tokenInterval})
	h := health.NewServer()
	h.SetServingStatus(demopb.Demo_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(s, h)
	reflection.Register(s)
	return s
}

// service implements demo.proto. It keeps nothing between calls.
type service struct {
	demopb.UnimplementedDemoServer
	tokenInterval time.Duration // between two tokens of an answer
}

func (s *service) Echo(ctx context.Context, req *demopb.EchoRequest) (*demopb.EchoResponse, error) {
	res := &demopb.EchoResponse{Text: req.GetText()}
	md, _ := metadata.FromIncomingContext(ctx)
	for _, key := range slices.Sorted(maps.Keys(md)) {
		for _, value := range md[key] {
			res.Metadata = append(res.Metadata, &demopb.Metadatum{Key: key, Value: []byte(value)})
		}
	}
	return res, nil
}

func (s *service) Reserve(_ context.Context, req *demopb.ReserveRequest) (*demopb.ReserveResponse, error) {
	name, day := strings.TrimSpace(req.GetName()), strings.ToLower(strings.TrimSpace(req.GetDay()))
	var wrong []*errdetails.BadRequest_FieldViolation
	if name == "" {
		wrong = append(wrong, violation("name", "must not be empty"))
	}
	if n := req.GetSeats(); n < 1 || n > maxSeats {
		wrong = append(wrong, violation("seats", fmt.Sprintf("%d is not between 1 and %d", n, maxSeats)))
	}
	weekday := weekdayIndex(day)
	if weekday < 0 {
		wrong = append(wrong, violation("day", fmt.Sprintf("%q is no weekday", req.GetDay())))
	}
	if len(wrong) > 0 {
		return nil, invalid("RESERVATION_INVALID", wrong...)
	}
	if time.Weekday(weekday) == time.Friday {
		return nil, failure(codes.ResourceExhausted, "friday is full",
			&errdetails.ErrorInfo{Reason: "DAY_FULL", Domain: errorDomain, Metadata: map[string]string{"day": day, "free_seats": "0"}},
			&errdetails.RetryInfo{RetryDelay: durationpb.New(90 * time.Second)})
	}
	return &demopb.ReserveResponse{Code: fmt.Sprintf("%s-%d-%d", strings.ToUpper(day[:3]), req.GetSeats(), len(name))}, nil
}

// weekdayIndex returns the day's time.Weekday, or -1.
func weekdayIndex(day string) int {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if strings.EqualFold(d.String(), day) {
			return int(d)
		}
	}
	return -1
}

func (s *service) Countdown(req *demopb.CountdownRequest, stream grpc.ServerStreamingServer[demopb.CountdownResponse]) error {
	interval := time.Duration(req.GetIntervalMs()) * time.Millisecond
	if n := req.GetFrom(); n > maxCountdown {
		return invalid("COUNTDOWN_INVALID", violation("from", fmt.Sprintf("%d is over %d", n, maxCountdown)))
	}
	if interval > maxCountdownInterval {
		return invalid("COUNTDOWN_INVALID", violation("interval_ms", fmt.Sprintf("%v is over %v", interval, maxCountdownInterval)))
	}
	p := newPace(interval)
	defer p.stop()
	for left := req.GetFrom(); ; left-- {
		if err := stream.Send(&demopb.CountdownResponse{Left: left}); err != nil {
			return err
		}
		if left == 0 {
			return nil
		}
		if err := p.wait(stream.Context()); err != nil {
			return status.FromContextError(err).Err()
		}
	}
}

func (s *service) Sum(stream grpc.ClientStreamingServer[demopb.SumRequest, demopb.SumResponse]) error {
	var res demopb.SumResponse
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&res)
		}
		if err != nil {
			return err
		}
		n := req.GetNumber()
		if (n > 0 && res.Sum > math.MaxInt64-n) || (n < 0 && res.Sum < math.MinInt64-n) {
			return failure(codes.OutOfRange, fmt.Sprintf("adding %d to %d leaves 64 bits", n, res.Sum),
				&errdetails.ErrorInfo{Reason: "SUM_OVERFLOW", Domain: errorDomain})
		}
		res.Sum += n
		res.Count++
	}
}

// pace waits between messages. Its owner must stop it.
type pace struct{ ticker *time.Ticker } // nil: no pause

func newPace(interval time.Duration) pace {
	if interval <= 0 {
		return pace{}
	}
	return pace{time.NewTicker(interval)}
}

// wait returns nil at the next tick, or the context's cause after its end.
func (p pace) wait(ctx context.Context) error {
	if p.ticker != nil {
		select {
		case <-p.ticker.C:
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

func (p pace) stop() {
	if p.ticker != nil {
		p.ticker.Stop()
	}
}

func violation(field, description string) *errdetails.BadRequest_FieldViolation {
	return &errdetails.BadRequest_FieldViolation{Field: field, Description: description}
}

// invalid returns the error for an invalid request: a form can show the
// violations beside its fields, and a program can read the reason.
func invalid(reason string, fields ...*errdetails.BadRequest_FieldViolation) error {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.GetField()
	}
	return failure(codes.InvalidArgument, "invalid "+strings.Join(names, ", "),
		&errdetails.BadRequest{FieldViolations: fields},
		&errdetails.ErrorInfo{Reason: reason, Domain: errorDomain})
}

func failure(code codes.Code, message string, details ...protoadapt.MessageV1) error {
	st, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		panic("BUG: details of google.rpc can always be packed: " + err.Error())
	}
	return st.Err()
}

func echoMetadata(ctx context.Context) (header, trailer metadata.MD) {
	header, trailer = metadata.MD{}, metadata.MD{}
	md, _ := metadata.FromIncomingContext(ctx)
	for key, values := range md {
		if name, ok := strings.CutPrefix(key, echoPrefix); ok {
			header[echoHeaderPrefix+name] = values
			trailer[echoTrailerPrefix+name] = values
		}
	}
	return header, trailer
}

func echoMetadataUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	header, trailer := echoMetadata(ctx)
	if err := errors.Join(grpc.SetHeader(ctx, header), grpc.SetTrailer(ctx, trailer)); err != nil {
		return nil, err
	}
	return handle(ctx, req)
}

func echoMetadataStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	header, trailer := echoMetadata(stream.Context())
	stream.SetTrailer(trailer)
	// At once: a client may wait for the headers before it sends anything.
	if err := stream.SendHeader(header); err != nil {
		return err
	}
	return handle(srv, stream)
}
