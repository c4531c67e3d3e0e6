package config

import "net"

// checkListeners finds listeners with the same address or name, and keys that
// have no effect on a listener.
func checkListeners(l *Loaded) {
	if len(l.Listen) == 0 {
		l.refuse("listen", `has no address: write ":8080", or remove the key`)
	}
	for i, ln := range l.Listen {
		entry := Entry("listen", i)
		for j, other := range l.Listen[:i] {
			if collide(ln.Address, other.Address) {
				l.refuse(entry+".address", "is the address of %s, too: use another one", Entry("listen", j))
			}
			if ln.Name != "" && ln.Name == other.Name {
				l.refuse(entry+".name", "is the name of %s, too: use another one, so that the log can tell them apart", Entry("listen", j))
			}
		}
		if l.IsSet(entry+".mode") && ln.Socket() == "" {
			l.refuse(entry+".mode", "is for unix sockets, and this address is a port: remove the key")
		}
	}
}

// collide reports whether culvert can't listen on both addresses. A port on
// all interfaces collides with the same port on one interface.
func collide(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil { // off, or a unix socket
		return a == b && a != ""
	}
	return portA == portB && portA != "0" && (hostA == hostB || isWildcard(hostA) || isWildcard(hostB))
}
