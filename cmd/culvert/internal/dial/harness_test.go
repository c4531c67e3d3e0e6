package dial

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/client"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// startEdge serves handle behind a culvert, in plaintext, and returns its address.
func startEdge(t testing.TB, cfg bridge.Config, handle func(grpc.ServerStream) error) string {
	t.Helper()
	return startEdgeAt(t, cfg, bridge.Listener{}, handle)
}

// startEdgeAt does the same at a listener that may have TLS.
func startEdgeAt(t testing.TB, cfg bridge.Config, at bridge.Listener, handle func(grpc.ServerStream) error) string {
	t.Helper()
	cfg.Backend.Target = parts.StartBackend(t, handle)
	b, err := bridge.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln := parts.Listen(t, "127.0.0.1:0")
	var serving sync.WaitGroup
	serving.Go(func() { _ = b.ServeListener(ln, at) }) // it always returns the error of a closed server
	t.Cleanup(func() {
		_ = b.Close()
		serving.Wait()
	})
	return ln.Addr().String()
}

// A relay passes TCP on, until it is cut.
type relay struct {
	address string
	to      string
	ln      net.Listener
	work    sync.WaitGroup

	mu      sync.Mutex
	conns   map[net.Conn]bool
	refuses bool
	total   int
}

func startRelay(t testing.TB, to string) *relay {
	t.Helper()
	r := &relay{to: to, ln: parts.Listen(t, "127.0.0.1:0"), conns: make(map[net.Conn]bool)}
	r.address = r.ln.Addr().String()
	r.work.Go(func() {
		for {
			c, err := r.ln.Accept()
			if err != nil {
				return
			}
			r.work.Go(func() { r.pass(c) })
		}
	})
	t.Cleanup(func() {
		_ = r.ln.Close()
		r.cut(true)
		r.work.Wait()
	})
	return r
}

func (r *relay) pass(c net.Conn) {
	defer c.Close()
	d, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer d.Close()
	r.mu.Lock()
	refuses := r.refuses
	r.conns[c], r.conns[d] = true, true
	r.total++
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.conns, c)
		delete(r.conns, d)
	}()
	if refuses {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(c, d)
		_ = c.Close()
	})
	_, _ = io.Copy(d, c)
	_ = d.Close()
	back.Wait()
}

// cut ends all connections, and further ones at once if refuses.
func (r *relay) cut(refuses bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuses = refuses
	for c := range r.conns {
		_ = c.Close() // whoever copies notices
	}
}

// lines are what Run prints.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start runs dial until the test ends, and returns the port's address and what it prints.
func start(t testing.TB, o Options) (string, *lines) {
	t.Helper()
	out := &lines{}
	o.Out, o.Client = out, append([]client.Option{client.WithProxy("none")}, o.Client...)
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, o) }()
	t.Cleanup(func() {
		cancel()
		if err := parts.Await(t, "the end of dial", ended); err != nil {
			t.Error(err)
		}
	})
	address := ""
	parts.Poll(t, func() string {
		select {
		case err := <-ended:
			ended <- nil
			t.Fatal(err)
		default:
		}
		var ok bool
		if _, address, ok = strings.Cut(out.String(), " at "); !ok {
			return "it doesn't print its address"
		}
		address, _, _ = strings.Cut(address, ",")
		return ""
	})
	return address, out
}

// connect returns a stock client of the port.
func connect(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	if !strings.HasPrefix(address, "unix:") {
		address = "passthrough:///" + address
	}
	cc, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(parts.BytesCodec{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() }) // it is open
	return cc
}

var bidi = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
