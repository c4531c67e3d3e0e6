package admin

import (
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/culvert-grpc/culvert/internal/tries"
)

// Access decides who gets through the guard with what an operator has set: the names of the
// admin address, and a token. Programs show the token in each request; browsers show it once,
// in the form of login.go, and then a cookie with a session's random id. The zero value with a
// Log lets pass callers for this host's own names, without a token. Its methods are safe for
// concurrent use.
type Access struct {
	Log *slog.Logger

	mu       sync.Mutex
	hosts    []string
	token    Token
	sessions sessions
	guesses  tries.Tries   // wrong tokens
	lines    *rate.Limiter // of the log, about wrong tokens; nil: none yet
	unlogged int           // wrong tokens since the last line
}

// guessShare is how many wrong tokens an address may try.
var guessShare = tries.Share{AtOnce: 10, Every: 6 * time.Second}

// guesser returns the addresses that count as one.
func guesser(remote string) netip.Prefix {
	at, _ := netip.ParseAddrPort(remote) // a unix socket has none
	return tries.Client(at.Addr())
}

// The lines about wrong tokens: attackers have many addresses.
const (
	linesAtOnce = 20
	lineEvery   = 10 * time.Second
)

// SetHosts sets the names, without ports, that Host may have besides those of this host.
func (a *Access) SetHosts(names []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hosts = slices.Clone(names)
}

// SetToken sets the token. If it is another one than before, all sessions end.
func (a *Access) SetToken(t Token) {
	a.mu.Lock()
	before := a.token
	a.token = t
	ended := 0
	if t != before {
		ended = a.sessions.endAll()
	}
	a.mu.Unlock()
	if t != before && before.set {
		a.Log.Info("admin token replaced: its sessions have ended", "sessions", ended)
	}
}

// names reports whether a host, without a port, is one of the names.
func (a *Access) names(host string) bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.hosts, func(name string) bool {
		if want, err := netip.ParseAddr(name); err == nil {
			addr, err := netip.ParseAddr(host)
			return err == nil && addr == want
		}
		return strings.EqualFold(name, host)
	})
}

func (a *Access) wantsToken() bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.token.set
}

// admits reports whether the caller has shown the token. If not, it has answered the request.
func (a *Access) admits(w http.ResponseWriter, r *http.Request) bool {
	if !a.wantsToken() {
		return true
	}
	switch r.URL.Path {
	case loginPath:
		a.serveLogin(w, r)
		return false
	case logoutPath:
		a.serveLogout(w, r)
		return false
	}
	shown, given := r.Header["Authorization"]
	switch {
	case given:
		right, wait := a.judge(r.RemoteAddr, bearer(shown), func() {})
		switch {
		case right:
			return true
		case wait > 0:
			text := tooMany(w, wait)
			answer(w, http.StatusTooManyRequests, "culvert: "+text+"\n")
		default:
			unauthorized(w, "this isn't the admin token: send that of the file in admin.token")
		}
	case a.hasSession(r):
		return true
	case wantsPage(r):
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, loginPath, http.StatusSeeOther)
	default:
		unauthorized(w, "the admin address wants its token: send the header Authorization: Bearer TOKEN, with the token of the file in admin.token, or log in with a browser")
	}
	return false
}

func unauthorized(w http.ResponseWriter, text string) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="culvert admin"`) // RFC 6750 §3
	answer(w, http.StatusUnauthorized, "culvert: "+text+"\n")
}

// bearer returns the token in the fields of Authorization, or "". RFC 6750 §2.1.
func bearer(fields []string) string {
	if len(fields) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(fields[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.Trim(token, " ")
}

// wantsPage reports whether a person's browser wants to show the answer.
func wantsPage(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		(r.Header.Get("Sec-Fetch-Mode") == "navigate" || strings.Contains(r.Header.Get("Accept"), "text/html"))
}

// judge reports whether text is the token. If so, it has called enter with mu held: SetToken ends
// what the token before has let in, and nothing of it comes later. Until wait is over, no text is
// the token: an address has so many guesses only.
func (a *Access) judge(remote, text string, enter func()) (right bool, wait time.Duration) {
	now, from := time.Now(), guesser(remote)
	a.mu.Lock()
	if wait = a.guesses.Wait(from, now); wait > 0 {
		a.mu.Unlock()
		return false, wait
	}
	if a.token.is(text) {
		enter()
		a.mu.Unlock()
		return true, 0
	}
	a.guesses.Failed(from, guessShare, now)
	if a.lines == nil {
		a.lines = rate.NewLimiter(rate.Every(lineEvery), linesAtOnce)
	}
	log, unlogged := a.lines.AllowN(now, 1), a.unlogged
	if log {
		a.unlogged = 0
	} else {
		a.unlogged++
	}
	a.mu.Unlock()
	if log {
		a.Log.Warn("refused a wrong admin token", "peer", remote, "not_logged", unlogged)
	}
	return false, 0
}

// mustWait returns how long an address must wait before its next guess. 0: not at all.
func (a *Access) mustWait(remote string) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.guesses.Wait(guesser(remote), time.Now())
}

func (a *Access) hasSession(r *http.Request) bool {
	ids := sessionIDs(r)
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(ids, func(id string) bool { return a.sessions.has(id, time.Now()) })
}
