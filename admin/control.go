package admin

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	runtimepprof "runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Control serves the admin address: pages for operators, who may also change the log
// level and drain. Every field but Access is required. control_guard.go and access.go decide
// who is an operator.
type Control struct {
	Log           *slog.Logger
	Level         *slog.LevelVar // of the log
	Version       string         // of culvert
	Started       time.Time      // when culvert did
	Configuration func() Configuration
	Problems      func() []string // that don't keep culvert from serving
	Drain         *Drain
	Data          Data
	Access        *Access // nil: programs on this host, without a token

	making sync.Mutex // held while a page of JSON is made
}

// A Configuration is what culvert runs with, and what became of the newest file.
type Configuration struct {
	Print   func(io.Writer) error // writes it in the form of a file, without secrets
	File    string                // that it was read from; empty: none
	Version string                // distinguishes it from others
	Since   time.Time             // when it took effect

	// Rejected is why culvert doesn't run with the newest file, a line for each
	// mistake. If nil, it does.
	Rejected   error
	RejectedAt time.Time
	Difference []string // keys that have other values in that file, if it could be read
	Restart    []string // of these, keys that need a restart
}

// Handler serves the pages to the callers that the guard lets pass.
func (c *Control) Handler() http.Handler {
	mux := http.NewServeMux()
	c.servePage(mux)
	mux.HandleFunc("GET /config", c.showConfiguration)
	mux.HandleFunc("GET /log-level", c.showLevel)
	mux.HandleFunc("PUT /log-level", c.setLevel)
	mux.HandleFunc("GET /drain", c.showDrain)
	mux.HandleFunc("POST /drain", c.beginDrain)
	// Without cmdline and symbol: the one shows the arguments, and profiles of Go
	// programs have their symbols.
	mux.HandleFunc("GET /debug/pprof/{$}", c.list)
	mux.Handle("GET /debug/pprof/profile", short(http.HandlerFunc(pprof.Profile)))
	mux.Handle("GET /debug/pprof/trace", short(http.HandlerFunc(pprof.Trace)))
	for _, p := range runtimepprof.Profiles() {
		mux.Handle("GET /debug/pprof/"+p.Name(), short(pprof.Handler(p.Name())))
	}
	c.serveData(mux)
	return guard(mux, c.Access)
}

// maxSeconds bounds the duration of a profile.
const maxSeconds = 120

// short refuses a longer profile.
func short(profile http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text := r.URL.Query().Get("seconds"); text != "" {
			seconds, err := strconv.ParseFloat(text, 64)
			if err != nil || !(0 <= seconds && seconds <= maxSeconds) { // NaN is neither
				answer(w, http.StatusBadRequest, fmt.Sprintf("culvert: seconds is %q: write a number from 0 to %d\n", text, maxSeconds))
				return
			}
		}
		profile.ServeHTTP(w, r)
	})
}

// Server returns an http.Server for the pages, with bounds on what a caller can hold.
func (c *Control) Server() *http.Server {
	one := new(http.Protocols)
	one.SetHTTP1(true) // over TLS, too: HTTP/2 would have more states before the token
	return &http.Server{
		Handler:           closing(c.Handler()),
		Protocols:         one,
		ReadHeaderTimeout: 5 * time.Second,  // ReadTimeout would end a profile; guard bounds bodies
		WriteTimeout:      30 * time.Second, // package pprof adds the duration of a profile
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}
}

func (c *Control) list(w http.ResponseWriter, r *http.Request) {
	at := "http://" + r.Host
	if r.TLS != nil {
		at = "https://" + r.Host
	}
	if c.Access.wantsToken() {
		at = "-H 'Authorization: Bearer TOKEN' " + at
	}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && local.Network() == "unix" {
		at = "--unix-socket PATH " + at
	}
	var names []string
	for _, p := range runtimepprof.Profiles() {
		names = append(names, p.Name())
	}
	answer(w, http.StatusOK, fmt.Sprintf(`culvert %s

GET /calls?order=age&limit=100    the calls that are open now; order: %s
POST /calls/ID/stop               end a call with ABORTED (STOPPED)
GET /connections, /backends, /routes, /memory, /limits, /failures, /certificates, /auth, /status
GET /config                       the configuration in effect, and why culvert rejected a newer file
GET /log-level                    the lowest level in the log
PUT /log-level                    set it to debug, info, warn or error, until a reload or the next start sets another
GET /drain                        how far a drain has come
POST /drain?delay=5s              end readiness, and after the delay refuse new calls
GET /debug/pprof/profile          a CPU profile; ?seconds=30, at most %d
GET /debug/pprof/trace            an execution trace; ?seconds=1, at most %d
GET /debug/pprof/NAME             %s

A request that changes something needs the header %s:
curl -X PUT -H '%s: 1' --data debug %s/log-level
`, c.Version, oneOf(Orders), maxSeconds, maxSeconds, strings.Join(names, ", "), Header, Header, at))
}

func (c *Control) showConfiguration(w http.ResponseWriter, _ *http.Request) {
	now := c.Configuration()
	var text bytes.Buffer
	fmt.Fprintf(&text, "# culvert %s, configuration %s, in effect since %s\n", c.Version, now.Version, now.Since.UTC().Format(time.RFC3339))
	if now.Rejected != nil {
		fmt.Fprintf(&text, "# culvert rejected a newer file at %s:\n", now.RejectedAt.UTC().Format(time.RFC3339))
		for line := range strings.Lines(now.Rejected.Error()) {
			text.WriteString("# " + strings.Map(visible, strings.TrimSuffix(line, "\n")) + "\n")
		}
	}
	if err := now.Print(&text); err != nil {
		answer(w, http.StatusInternalServerError, "culvert: "+err.Error()+"\n")
		return
	}
	answer(w, http.StatusOK, text.String())
}

func (c *Control) showLevel(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, levelName(c.Level.Level())+"\n")
}

func (c *Control) setLevel(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	word := strings.TrimSpace(string(body))
	level, known := levels[word]
	if err != nil || !known {
		answer(w, http.StatusBadRequest, "culvert: the body is no log level: send debug, info, warn or error\n")
		return
	}
	before := c.Level.Level()
	c.Level.Set(min(before, level)) // so that the line is in the log
	c.Log.Info("log level changed", "from", levelName(before), "to", word)
	c.Level.Set(level)
	answer(w, http.StatusOK, word+"\n")
}

var levels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

func levelName(l slog.Level) string { return strings.ToLower(l.String()) }
