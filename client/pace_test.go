package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/connectivity"

	"github.com/culvert-grpc/culvert/client/internal/frame"
	"github.com/culvert-grpc/culvert/client/internal/network"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/parts/box"
)

// TestPace: when attempts begin that fail, at the moments when grpc-go or a pool would connect.
func TestPace(t *testing.T) {
	down := errors.New("down")
	forbidden := &network.Error{Stage: network.Proxy, Answer: &network.Answer{Code: http.StatusForbidden}}
	wrong := &network.Error{Stage: network.Proxy, Answer: &network.Answer{Code: http.StatusProxyAuthRequired}, LoggedIn: true}
	calls := func(every, until time.Duration) func(time.Duration) time.Duration {
		return func(now time.Duration) time.Duration { return min(now, until).Truncate(every) }
	}
	never := func(time.Duration) time.Duration { return -time.Hour }
	for _, c := range []struct {
		name string
		err  error
		call func(now time.Duration) time.Duration // when the last one came
		want string                                // seconds
	}{
		{"no call", down, never, "0 1 2.6 5.2 9.3 15.9 26.4 43.2 70.1 113.1 181.9 291.9 411.9 531.9"},
		{"a storm of calls", down, calls(100*time.Millisecond, 30*time.Second), "0 1 2.6 5.2 9.3 14.3 19.3 24.3 29.3 34.3 39.3 149.3 269.3 389.3 509.3"},
		{"no call, the proxy refuses", forbidden, never, "0"},
		{"a call, the proxy refuses", forbidden, calls(time.Hour, 0), "0 1 2.6 5.2 9.3"},
		{"a storm of calls, and a wrong password", wrong, calls(100*time.Millisecond, time.Hour), "0 1 2.6 5.2 9.3 15.9 26.4 43.2 70.1 113.1 181.9 291.9 411.9 531.9"},
	} {
		var p pace
		var got []string
		zero := time.Unix(1e9, 0)
		for now := time.Duration(0); now < 600*time.Second; now += 100 * time.Millisecond {
			if a, ok := p.begin(zero.Add(now), zero.Add(c.call(now)), "here"); ok {
				got = append(got, fmt.Sprint(now.Seconds()))
				p.end(a, zero.Add(now), c.err, "here", 0.5)
			}
		}
		if got := strings.Join(got, " "); got != c.want {
			t.Errorf("%s:\n%s, want\n%s", c.name, got, c.want)
		}
		if later := zero.Add(600 * time.Second); !may(&p, later, zero, "elsewhere") {
			t.Errorf("%s: no attempt in another network", c.name)
		}
	}
}

func may(p *pace, now, called time.Time, at string) bool {
	_, ok := p.begin(now, called, at)
	return ok
}

// TestPaceSideBySide: attempts that have begun together count once, and one that ends late lets
// no other begin beside the next.
func TestPaceSideBySide(t *testing.T) {
	var p pace
	zero := time.Unix(1e9, 0)
	at := func(seconds float64) time.Time { return zero.Add(time.Duration(seconds * float64(time.Second))) }
	begin := func(seconds float64) attempt {
		t.Helper()
		a, ok := p.begin(at(seconds), zero, "here")
		if !ok {
			t.Fatalf("no attempt after %v s", seconds)
		}
		return a
	}
	first, second, third := begin(0), begin(0), begin(0)
	if !first.alone || second.alone {
		t.Errorf("%+v, %+v", first, second)
	}
	p.end(first, at(1), errClosed, "here", 0.5)
	next := begin(2)
	p.end(second, at(3), errClosed, "here", 0.5)
	p.giveUp(third)
	if may(&p, at(60), zero, "here") || may(&p, at(60), zero, "elsewhere") {
		t.Error("an attempt begins beside the one behind a failed one")
	}
	p.end(next, at(61), errClosed, "here", 0.5)
	if p.failures != 1 || p.running != 0 {
		t.Errorf("%+v", p)
	}
	p.end(begin(100), at(101), nil, "here", 0.5)
	if p != (pace{}) {
		t.Errorf("%+v", p)
	}
}

// TestRefusalLasts: a proxy that has refused a password isn't asked again by an attempt that is
// under way, although another one begins.
func TestRefusalLasts(t *testing.T) {
	b := box.Start(t, box.Options{User: "u", Password: "right"})
	d, err := NewDialer("https://edge.example.com", WithProxy("http://u:wrong@"+b.Address))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var attempts []attempt
	for range 2 {
		a, err := d.mayTry()
		if err != nil {
			t.Fatal(err)
		}
		attempts = append(attempts, a)
		var refused *network.Error
		if _, err = d.net.Connect(parts.Within(t, parts.Patience), d.target); !errors.As(err, &refused) || !refused.LoggedIn {
			t.Errorf("%v", err)
		}
	}
	if asked := b.Seen(); len(asked) != 1 {
		t.Errorf("%d requests: %q", len(asked), asked)
	}
	for _, a := range attempts {
		d.tried(a, nil, true)
	}
}

// TestWrongPassword is tried once in each attempt, whatever the number of ways and of calls.
func TestWrongPassword(t *testing.T) {
	for _, o := range []box.Options{{User: "u", Password: "right"}, {ConnectCode: http.StatusForbidden}} {
		e := startEdge(t, parts.Echo)
		b := box.Start(t, o)
		changes := make(chan Status, 1000)
		c := e.connect(t, WithProxy("http://u:wrong@"+b.Address), WithOnChange(func(s Status) { changes <- s }))
		var calls sync.WaitGroup
		for range 20 {
			calls.Go(func() {
				if err := c.Invoke(parts.Within(t, parts.Patience), "/a.B/Echo", []byte("x"), new([]byte)); err == nil {
					t.Error("a call got through")
				}
			})
		}
		calls.Wait()
		attempts := 0
		parts.Poll(t, func() string { // changes are told later
			asked := len(b.Seen())
			for len(changes) > 0 {
				if s := <-changes; s.State == connectivity.Connecting {
					attempts++
				}
			}
			if attempts == 0 || asked > attempts {
				return fmt.Sprintf("%d attempts have asked the proxy %d times: %q", attempts, asked, b.Seen())
			}
			return ""
		})
	}
}

// TestDialWanted rests after a connection to which the edge has said goodbye before it answered a
// call there, until a call comes.
func TestDialWanted(t *testing.T) {
	goodbye, answer := frame.Make(http2.FrameGoAway, make([]byte, 8)...), frame.Make(http2.FrameHeaders)
	for name, row := range map[string]struct {
		came  []byte                                 // on the connection
		then  func(t *testing.T, d *Dialer, c *conn) // before its end; nil: nothing
		rests bool
	}{
		"a goodbye":                           {goodbye, nil, true},
		"a goodbye behind a ping":             {slices.Concat(pingFrame, goodbye), nil, true},
		"a cut connection":                    {pingFrame, nil, false},
		"an answer, and a goodbye":            {slices.Concat(answer, goodbye), nil, false},
		"a goodbye, and the answer under way": {slices.Concat(goodbye, answer), nil, false},
		"a goodbye, and a call":               {goodbye, func(_ *testing.T, d *Dialer, _ *conn) { d.Want() }, false},
		"a goodbye, for a better way":         {nil, func(_ *testing.T, _ *Dialer, c *conn) { c.retire(); _, _ = c.Read(make([]byte, 100)) }, false},
		"a goodbye beside another":            {goodbye, func(t *testing.T, d *Dialer, _ *conn) { keepPipe(t, d, GRPC) }, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := inMemory(t, parts.Places{}) // there is no edge any more
			near, far := net.Pipe()
			c := newConn(near, WebSocket, nil)
			d.Want() // a call of long ago
			d.keep(opened{conn: c, lesson: lesson{way: WebSocket}})
			go func() { // until it is read
				_, _ = far.Write(row.came)
				_ = far.Close() // a pipe's never fails
			}()
			if row.came != nil {
				if _, err := io.Copy(io.Discard, c); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if row.then != nil {
				row.then(t, d, c)
			}
			_ = c.Close() // as above
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			began := time.Now()
			_, err := d.DialWanted(ctx)
			if rests := errors.Is(err, errUnwanted); rests != row.rests || rests && time.Since(began) < time.Hour || err == nil {
				t.Errorf("%s: it ended after %v with %v; rests: %v, want %v", name, time.Since(began), err, rests, row.rests)
			}
			if !row.rests {
				return
			}
			ends := make(chan error, 2)
			for range cap(ends) {
				go func() {
					_, err := d.DialWanted(t.Context())
					ends <- err
				}()
			}
			synctest.Wait()
			d.Want()
			for range cap(ends) {
				if err := <-ends; err == nil || errors.Is(err, errUnwanted) {
					t.Errorf("%s: a call has come, and it ended with %v", name, err)
				}
			}
		})
	}
}
