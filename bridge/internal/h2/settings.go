package h2

import (
	"net/http"
	"time"
)

// settings are the values that a connection takes from its http.Server.
type settings struct {
	streams      int // at once
	streamWindow int
	connWindow   int
	headerList   int           // bytes, counted as RFC 9113 §6.5.2 does
	headerTime   time.Duration // for the preface, and for a header block that has begun
	idle         time.Duration // without a stream; 0: for ever
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

// settingsOf reads the http.Server as net/http does, with its defaults.
func settingsOf(hs *http.Server) settings {
	var h http.HTTP2Config
	if hs.HTTP2 != nil {
		h = *hs.HTTP2
	}
	return settings{
		streams: orDefault(h.MaxConcurrentStreams, 250),
		// Until a client has our SETTINGS, it may send as much as the default.
		streamWindow: min(max(orDefault(h.MaxReceiveBufferPerStream, 1<<20), defaultWindow), maxWindow),
		connWindow:   min(max(orDefault(h.MaxReceiveBufferPerConnection, 1<<20), defaultWindow), maxWindow),
		// net/http allows for ten fields' overhead, which HTTP/1 doesn't count.
		headerList:  orDefault(hs.MaxHeaderBytes, http.DefaultMaxHeaderBytes) + 10*32,
		headerTime:  orDefault(hs.ReadHeaderTimeout, 10*time.Second),
		idle:        hs.IdleTimeout,
		pingAfter:   h.SendPingTimeout,
		pingTimeout: orDefault(h.PingTimeout, 15*time.Second),
	}
}

func orDefault[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}
