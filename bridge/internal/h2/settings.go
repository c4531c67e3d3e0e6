package h2

import (
	"net"
	"net/http"
	"time"
)

// settings are the values that a connection takes from its http.Server and Hooks.Rules.
type settings struct {
	Rules
	streamWindow int
	headerList   int           // bytes, counted as RFC 9113 §6.5.2 does
	headerTime   time.Duration // for the preface, and for a header block that has begun
	pingAfter    time.Duration // of silence; 0: only to end an idle connection
	pingTimeout  time.Duration // for the answer
}

// Fixed bounds.
const (
	maxFrameBytes    = 16 << 10 // either way: what every peer takes, RFC 9113 §4.2
	headerTableBytes = 4 << 10  // HPACK, either way
	defaultWindow    = 64<<10 - 1
	settingsTime     = 2 * time.Second // for the first SETTINGS, which arrives with the preface
	goodbyeTime      = time.Second     // for a client to close after the last GOAWAY
	pongTime         = 500 * time.Millisecond
	unreadTime       = 5 * time.Minute // for a client to read the data in its kernel, if nothing else bounds a slow client
	maxQueuedAcks    = 10_000          // answers that the peer required and has not read
	maxContinuations = 256
	maxSettings      = 100 // in one frame
)

// settingsOf reads the http.Server as net/http does, with its defaults, and asks for the
// connection's rules.
func settingsOf(hs *http.Server, nc net.Conn, rules func(net.Conn) Rules) settings {
	var h http.HTTP2Config
	if hs.HTTP2 != nil {
		h = *hs.HTTP2
	}
	s := settings{
		Rules: Rules{
			Streams:     orDefault(h.MaxConcurrentStreams, 250),
			Window:      min(max(orDefault(h.MaxReceiveBufferPerConnection, 1<<20), defaultWindow), maxWindow),
			HeaderBytes: orDefault(hs.MaxHeaderBytes, http.DefaultMaxHeaderBytes),
			Idle:        hs.IdleTimeout,
		},
		// Until a client has our SETTINGS, it may send as much as the default.
		streamWindow: min(max(orDefault(h.MaxReceiveBufferPerStream, 1<<20), defaultWindow), maxWindow),
		headerTime:   orDefault(hs.ReadHeaderTimeout, 10*time.Second),
		pingAfter:    h.SendPingTimeout,
		pingTimeout:  orDefault(h.PingTimeout, 15*time.Second),
	}
	if rules != nil {
		s.Rules = rules(nc)
	}
	s.headerList = s.HeaderBytes + 10*32 // net/http allows for ten fields' overhead, which HTTP/1 doesn't count
	return s
}

func orDefault[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}
