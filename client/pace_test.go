package client

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/connectivity"

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
