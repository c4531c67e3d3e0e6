package client

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestTokenSource is asked once for each connection that is opened with a request, and once for each
// call, which carries the answer.
func TestTokenSource(t *testing.T) {
	var mu sync.Mutex
	var saw []string
	e := startEdge(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		mu.Lock()
		saw = append(saw, md["authorization"]...)
		mu.Unlock()
		return parts.Echo(ss)
	})
	for _, way := range ways {
		t.Run(string(way), func(t *testing.T) {
			saw = nil
			var asked atomic.Int64
			c := e.connect(t, WithWay(way), WithToken(func(context.Context) (string, error) {
				return fmt.Sprint(asked.Add(1)), nil
			}))
			for range 2 { // connections
				for range 2 {
					if err := c.Invoke(parts.Within(t, parts.Patience), "/a.B/Echo", []byte("x"), new([]byte)); err != nil {
						t.Fatal(err)
					}
				}
				if err := parts.Converse(t, c, 3, 0); err != nil {
					t.Fatal(err)
				}
				c.d.mu.Lock()
				conns := slices.Collect(maps.Keys(c.d.conns))
				c.d.mu.Unlock()
				for _, conn := range conns {
					_ = conn.Close() // it may be closed
				}
				parts.Poll(t, func() string { // grpc-go finds out by reading
					if s := c.cc.GetState(); s != connectivity.Idle {
						return "grpc-go's state is " + s.String()
					}
					return ""
				})
			}
			mu.Lock()
			defer mu.Unlock()
			want := []string{"Bearer 2", "Bearer 3", "Bearer 4", "Bearer 6", "Bearer 7", "Bearer 8"}
			if !slices.Equal(saw, want) || asked.Load() != 8 {
				t.Errorf("asked %d times, and the backend saw %q, want %q", asked.Load(), saw, want)
			}
		})
	}
}
