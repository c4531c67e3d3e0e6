package frames

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/culvert-grpc/culvert/examples/agent-tunnel/tunnelpb"
)

// SendBody sends a body to its end, and then the trailers. It waits while the other end
// has no room, and returns an error if the exchange ends before.
func (x *Exchange) SendBody(body io.Reader, trailers func() http.Header) error {
	for {
		room, err := x.room()
		if err != nil {
			return err
		}
		data := make([]byte, room) // a new one each time: grpc-go may keep the message
		n, readErr := body.Read(data)
		if n > 0 {
			x.spend(n)
			if err := x.Send(&tunnelpb.Frame{Part: &tunnelpb.Frame_Data{Data: data[:n]}}); err != nil {
				return err
			}
		}
		if errors.Is(readErr, io.EOF) {
			return x.Send(&tunnelpb.Frame{Part: &tunnelpb.Frame_Trailers{Trailers: &tunnelpb.Trailers{Fields: Fields(trailers())}}})
		}
		if readErr != nil {
			return readErr
		}
	}
}

// room waits until the other end accepts data. It returns how much the next frame may have.
func (x *Exchange) room() (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	err := x.wait(func() bool { return x.credit > 0 })
	return min(x.credit, maxData), err
}

func (x *Exchange) spend(n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.credit -= n
}

// addCredit is for the other end's window frame.
func (x *Exchange) addCredit(n uint32) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if int64(x.credit)+int64(n) > Window {
		return fmt.Errorf("a window of %d bytes, after %d: the window is %d", n, x.credit, Window)
	}
	x.credit += int(n)
	x.changed.Broadcast()
	return nil
}
