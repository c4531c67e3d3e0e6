package doctor

import (
	"io"
	"net"
	"net/http"
	"testing"
)

// An endless connection is a header line without an end, until the bound of the test.
type endless struct {
	net.Conn
	read int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.read > 16*maxAnswer {
		return 0, io.EOF
	}
	n := copy(p, "HTTP/1.1 200 OK\r\nX: "[min(e.read, 20):])
	for i := range p[n:] {
		p[n+i] = 'x'
	}
	e.read += len(p)
	return len(p), nil
}

func (*endless) Close() error { return nil }

// TestEndlessHeader costs a bounded amount of memory.
func TestEndlessHeader(t *testing.T) {
	conn := new(endless)
	if f := readAnswer(conn, &http.Request{Method: http.MethodPost}); f.Result != cut || conn.read > maxAnswer {
		t.Errorf("%+v after %d bytes", f, conn.read)
	}
}
