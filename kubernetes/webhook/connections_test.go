package webhook

import (
	"net"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// TestOldestWaitingConnectionMakesRoom has a connection too many. That without a request
// for the longest time must go; those with a request stay.
func TestOldestWaitingConnectionMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connections{waiting: map[net.Conn]time.Time{}}
		var all []net.Conn
		add := func() net.Conn {
			here, there := net.Pipe()
			t.Cleanup(func() { here.Close(); there.Close() })
			all = append(all, here)
			time.Sleep(time.Second)
			return c.count(here, http.StateNew)
		}
		for range maxConnections {
			if gone := add(); gone != nil {
				t.Fatalf("connection %d makes another one go", len(all))
			}
		}
		c.count(all[0], http.StateActive)
		time.Sleep(time.Second)
		c.count(all[1], http.StateActive)
		c.count(all[1], http.StateIdle) // now it waits anew
		if gone := add(); gone != all[2] {
			t.Error("another connection than the oldest one must go")
		}
		c.count(all[2], http.StateClosed)
		c.count(all[3], http.StateClosed)
		if gone := add(); gone != nil {
			t.Error("a connection must go, and there is room")
		}
		for _, conn := range all {
			c.count(conn, http.StateActive)
		}
		if gone := add(); gone != all[len(all)-1] {
			t.Error("only the new one has no request")
		}
	})
}

func TestRequestsOfOneAddressLeaveRoom(t *testing.T) {
	r := requests{of: map[string]int{}}
	var ends []func()
	begin := func(host string, n int) (begun int) {
		for i := range n {
			if end, ok := r.begin(net.JoinHostPort(host, strconv.Itoa(1024+i))); ok {
				begun++
				ends = append(ends, end)
			}
		}
		return begun
	}
	if got := begin("2001:db8::1", maxRequests); got != maxOfAddress {
		t.Errorf("%d of one address, want %d", got, maxOfAddress)
	}
	if got, want := begin("192.0.2.1", maxRequests), maxRequests-maxOfAddress; got != want {
		t.Errorf("%d of another address, want %d", got, want)
	}
	for _, end := range ends {
		end()
	}
	if r.all != 0 || len(r.of) != 0 {
		t.Errorf("%d requests and %d addresses are left", r.all, len(r.of))
	}
}
