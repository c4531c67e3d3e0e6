package call

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// TestCloseBeforeHTTP2: the connection is closed, also if grpc-go never asked for it: the call was
// interrupted just then. The goroutine of a tunnel waits for that.
func TestCloseBeforeHTTP2(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	cc, err := grpc.NewClient("passthrough:///edge.test", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	n := &native{tap: newTap(near, nil), cc: cc, done: func() {
		_ = far.SetReadDeadline(time.Now().Add(patience)) // it ends a hang
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the connection isn't closed: %v", err)
		}
	}}
	n.close()
}
