package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// TestNewCallsBesideSilentConnections: with few descriptors and many silent connections, a
// new client is told at once that there are too many, by an answer or by the connection's end.
// The silent ones are only closed after ten seconds.
func TestNewCallsBesideSilentConnections(t *testing.T) {
	for _, files := range []int{64, 128, 256} {
		t.Run(fmt.Sprint(files), func(t *testing.T) {
			c := startCulvert(t, "127.0.0.1:1", culvertOptions{openFiles: files})
			for range 600 {
				conn, err := net.Dial("tcp", c.address)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() }) // culvert may have
			}
			for range 5 {
				conn, err := net.Dial("tcp", c.address)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() }) // culvert may have
				began := time.Now()
				_ = conn.SetDeadline(began.Add(5 * time.Second))                              // it is open here
				_, _ = io.WriteString(conn, "GET /a.B/C HTTP/1.1\r\nHost: localhost\r\n\r\n") // reading shows the error
				answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("a new call heard nothing for %v", time.Since(began))
				}
				if err == nil && answer.StatusCode != http.StatusServiceUnavailable {
					t.Errorf("a new call is answered %s, want 503", answer.Status)
				}
			}
		})
	}
}
