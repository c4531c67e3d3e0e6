package client

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	remembered    = time.Hour
	maxRemembered = 256 // networks
)

// A lesson is what was learnt about the way to an edge in one network.
type lesson struct {
	way    Way
	twoWay bool // gRPC-Web streams in both directions
	until  time.Time

	silent      Way // a connection by it went silent; "": none
	silentUntil time.Time
}

// at returns what still holds of the lesson.
func (l lesson) at(now time.Time) lesson {
	if now.After(l.until) {
		return lesson{}
	}
	if now.After(l.silentUntil) {
		l.silent = ""
	}
	return l
}

// memory has the lessons of this process. A lesson changes the order in which ways are tried,
// and never replaces a proof.
var memory = struct {
	sync.Mutex
	remotes map[string]netip.AddrPort // where a place's connections went last, to know the network
	lessons map[string]lesson
}{remotes: make(map[string]netip.AddrPort), lessons: make(map[string]lesson)}

// recall returns what is known about a place in the present network. Dialer.where names it.
func recall(where string, now time.Time) lesson {
	memory.Lock()
	remote, ok := memory.remotes[where]
	memory.Unlock()
	if !ok {
		return lesson{}
	}
	key := where + " " + localPrefix(remote)
	memory.Lock()
	defer memory.Unlock()
	return memory.lessons[key].at(now)
}

// learn remembers a way, of a connection that has proven it.
func learn(where string, c *conn, l lesson, now time.Time) {
	teach(where, c, now, func(before lesson) lesson {
		l.silent, l.silentUntil = before.silent, before.silentUntil
		return l
	})
}

// distrust remembers that a connection of a way went silent.
func distrust(where string, c *conn, now time.Time) {
	teach(where, c, now, func(l lesson) lesson {
		l.silent, l.silentUntil = c.way, now.Add(remembered)
		return l
	})
}

func teach(where string, c *conn, now time.Time, change func(lesson) lesson) {
	if c.remote == nil {
		return
	}
	remote, err := netip.ParseAddrPort(c.remote.String())
	if err != nil {
		return
	}
	key := where + " " + localPrefix(remote)
	memory.Lock()
	defer memory.Unlock()
	if len(memory.lessons) >= maxRemembered {
		clear(memory.lessons)
		clear(memory.remotes)
	}
	memory.remotes[where] = remote
	l := change(memory.lessons[key].at(now))
	l.until = now.Add(remembered)
	memory.lessons[key] = l
}

// localPrefix returns the network from which this machine would reach an address now. It sends
// nothing.
func localPrefix(remote netip.AddrPort) string {
	c, err := net.Dial("udp", remote.String()) //nolint:noctx // it doesn't wait
	if err != nil {
		return ""
	}
	defer c.Close()
	local, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return ""
	}
	addr, bits := local.Addr().Unmap(), 64
	if addr.Is4() {
		bits = 24
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return ""
	}
	return prefix.String()
}
