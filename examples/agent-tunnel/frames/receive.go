package frames

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/culvert-grpc/culvert/examples/agent-tunnel/tunnelpb"
)

// Receive takes a frame from the other end. It never waits, so one slow body stops no
// other. An error says which rule the other end has broken.
func (x *Exchange) Receive(f *tunnelpb.Frame) error {
	switch part := f.GetPart().(type) {
	case *tunnelpb.Frame_Headers:
		return x.receiveHeaders(part.Headers)
	case *tunnelpb.Frame_Data:
		return x.receiveData(part.Data)
	case *tunnelpb.Frame_Trailers:
		return x.receiveTrailers(part.Trailers)
	case *tunnelpb.Frame_Window:
		return x.addCredit(part.Window)
	case *tunnelpb.Frame_Abort:
		x.Fail(errors.New("the other end: " + part.Abort.GetReason()))
		return nil
	default:
		return fmt.Errorf("request %d has a frame that is none of a request: %T", x.ID, part)
	}
}

func (x *Exchange) receiveHeaders(h *tunnelpb.Headers) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.headers != nil {
		return fmt.Errorf("request %d has headers twice", x.ID)
	}
	x.headers = h
	x.changed.Broadcast()
	return nil
}

func (x *Exchange) receiveData(data []byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.headers == nil || x.trailers != nil {
		return fmt.Errorf("request %d has data outside its body", x.ID)
	}
	if len(data) > x.allowed {
		return fmt.Errorf("request %d has %d bytes more than its window", x.ID, len(data)-x.allowed)
	}
	x.allowed -= len(data)
	x.body.Write(data)
	x.changed.Broadcast()
	return nil
}

func (x *Exchange) receiveTrailers(t *tunnelpb.Trailers) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.headers == nil || x.trailers != nil {
		return fmt.Errorf("request %d has trailers outside its body", x.ID)
	}
	x.trailers = Header(t.GetFields())
	x.changed.Broadcast()
	return nil
}

// Headers waits for the headers from the other end.
func (x *Exchange) Headers() (*tunnelpb.Headers, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	err := x.wait(func() bool { return x.headers != nil })
	return x.headers, err
}

// Read reads the body from the other end. After io.EOF there are Trailers.
func (x *Exchange) Read(p []byte) (int, error) {
	n, credit, err := x.take(p)
	if credit > 0 {
		_ = x.Send(&tunnelpb.Frame{Part: &tunnelpb.Frame_Window{Window: credit}}) // or the stream has ended, and the next Read tells
	}
	return n, err
}

// take reads what is there, or waits. It also returns the bytes that the other end may
// now send: not after each read, so that small reads don't make many frames.
func (x *Exchange) take(p []byte) (n int, credit uint32, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.wait(func() bool { return x.body.Len() > 0 || x.trailers != nil }); err != nil {
		return 0, 0, err
	}
	if x.body.Len() == 0 {
		return 0, 0, io.EOF
	}
	n, err = x.body.Read(p)
	x.taken += n
	if x.taken < Window/2 || x.trailers != nil {
		return n, 0, err
	}
	credit, x.taken = uint32(x.taken), 0
	x.allowed += int(credit)
	return n, credit, err
}

// Trailers returns the trailers from the other end, or nil if its body isn't complete.
func (x *Exchange) Trailers() http.Header {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.trailers
}
