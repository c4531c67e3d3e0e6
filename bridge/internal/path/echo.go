package path

import (
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/pathservice"
)

// Bounds are those of one call. The bridge applies MessageBytes, to messages both ways, and
// Time.
type Bounds struct {
	Messages     int // 0: no bound
	MessageBytes int
	Bytes        int // of all messages of the client; an empty one counts as one
	Time         time.Duration
}

// Small are the bounds where the doctor is off: enough to see whether both directions stream,
// and of no use for anything else. Large are those where it is on.
var (
	Small = Bounds{Messages: 8, MessageBytes: 64, Bytes: 8 * 64, Time: 15 * time.Second}
	Large = Bounds{MessageBytes: pathservice.LargeMessage, Bytes: pathservice.LargeMessages * pathservice.LargeMessage, Time: 15 * time.Minute}
)

// BoundsFor returns the bounds of a call. doctor reports whether the doctor is on.
func BoundsFor(doctor bool) Bounds {
	if doctor {
		return Large
	}
	return Small
}

// Late is the fault of a call that takes longer than b.Time.
func (b Bounds) Late() *report.Fault { return b.over(report.ReasonDeadlineExceeded, "%v", b.Time) }

// over returns the fault of a call over one of its bounds.
func (b Bounds) over(reason report.Reason, bound string, n any) *report.Fault {
	f := report.Newf(reason, "a call of "+Name+" takes at most "+bound+" ("+report.Named(report.KeyDoctor)+")", n)
	f.Key, f.Remedy = report.KeyDoctor, "begin another call"
	if b == Small {
		f.Remedy += ", or set " + report.Named(report.KeyDoctor) + " for longer ones"
	}
	return f
}

// echo sends each message back, and ends OK with the client's half-close.
func echo(stream grpc.ServerStream, b Bounds) error {
	for n, left := 0, b.Bytes; ; n++ {
		m, err := receive(stream)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		left -= max(m.Len(), 1)
		switch {
		case b.Messages > 0 && n == b.Messages:
			err = b.over(report.ReasonLimitExceeded, "%d messages", b.Messages)
		case left < 0:
			err = b.over(report.ReasonLimitExceeded, "%d bytes of messages", b.Bytes)
		}
		if err != nil {
			m.Free()
			return err
		}
		if err := stream.SendMsg(&m); err != nil { // it frees the message
			return err
		}
	}
}

// tick answers a request with messages over some time, so that a client sees whether they
// arrive one by one.
func tick(stream grpc.ServerStream) error {
	request, err := receive(stream)
	if err != nil {
		return err
	}
	request.Free()
	every := time.NewTicker(pathservice.TickInterval)
	defer every.Stop()
	for n := range pathservice.TickMessages {
		if n > 0 {
			select {
			case <-every.C:
			case <-stream.Context().Done():
				return stream.Context().Err()
			}
		}
		if err := stream.SendMsg(&mem.BufferSlice{}); err != nil {
			return err
		}
	}
	return nil
}

// reply answers a unary call with a message.
func reply(stream grpc.ServerStream, message string) error {
	request, err := receive(stream)
	if err != nil {
		return err
	}
	request.Free()
	return stream.SendMsg(&mem.BufferSlice{mem.SliceBuffer(message)})
}

func receive(stream grpc.ServerStream) (m mem.BufferSlice, err error) {
	err = stream.RecvMsg(&m)
	return m, err
}
