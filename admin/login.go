package admin

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The paths that answer callers without a token.
const (
	loginPath  = "/login"
	logoutPath = "/logout"
)

// A cookie's name that begins with __Host- can't be set by another host of the domain, nor over
// plaintext. RFC 6265bis, "Cookie Name Prefixes". Browsers refuse such a cookie from
// http://localhost, which then has the name without the prefix.
const (
	cookieName   = "culvert-admin"
	securePrefix = "__Host-"
)

// maxLogin is enough for a token of which each byte is encoded in three.
const maxLogin = 4 << 10 // bytes

func cookieOf(r *http.Request) string {
	if r.TLS == nil {
		return cookieName
	}
	return securePrefix + cookieName
}

// sessionIDs returns what may be ids of sessions.
func sessionIDs(r *http.Request) []string {
	var ids []string
	for _, c := range r.CookiesNamed(cookieOf(r)) {
		ids = append(ids, c.Value)
	}
	return ids
}

// setCookie sets the session's cookie, or removes it if id is empty.
func setCookie(w http.ResponseWriter, r *http.Request, id string) {
	age := int(sessionTime / time.Second)
	if id == "" {
		age = -1
	}
	http.SetCookie(w, &http.Cookie{Name: cookieOf(r), Value: id, Path: "/", MaxAge: age, HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode}) //nolint:gosec // Secure wherever there is TLS
}

// serveLogin shows the form, and takes the token from it.
func (a *Access) serveLogin(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		showForm(w, http.StatusOK, "")
		return
	case http.MethodPost:
	default:
		notAllowed(w, "GET, HEAD, POST")
		return
	}
	if !isOwn(r) {
		answer(w, http.StatusForbidden, "culvert: the admin address takes a token from its own form: programs send the header Authorization: Bearer TOKEN in each request\n")
		return
	}
	if wait := a.mustWait(r.RemoteAddr); wait > 0 { // before the body is read
		showForm(w, http.StatusTooManyRequests, tooMany(w, wait))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxLogin)
	if err := r.ParseForm(); err != nil || len(r.PostForm["token"]) != 1 { // the query isn't in PostForm
		w.Header().Set("Connection", "close") // what is left of the body is not worth reading
		showForm(w, http.StatusBadRequest, "The form hasn't arrived as this page sends it. Try again.")
		return
	}
	var id string
	right, wait := a.judge(r.RemoteAddr, strings.TrimSpace(r.PostForm.Get("token")), func() {
		for _, before := range sessionIDs(r) {
			a.sessions.end(before)
		}
		id = a.sessions.begin(time.Now())
	})
	switch {
	case wait > 0:
		showForm(w, http.StatusTooManyRequests, tooMany(w, wait))
	case !right:
		showForm(w, http.StatusForbidden, "This isn't the admin token. It is in the file that admin.token names.")
	default:
		a.Log.Info("admin session began", "peer", r.RemoteAddr)
		setCookie(w, r, id)
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}

func (a *Access) serveLogout(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		notAllowed(w, "POST")
		return
	}
	if !isOwn(r) {
		answer(w, http.StatusForbidden, "culvert: the admin address ends a session for its own page only\n")
		return
	}
	a.mu.Lock()
	ended := false
	for _, id := range sessionIDs(r) {
		ended = a.sessions.end(id) || ended
	}
	a.mu.Unlock()
	if ended {
		a.Log.Info("admin session ended", "peer", r.RemoteAddr)
	}
	setCookie(w, r, "")
	http.Redirect(w, r, loginPath, http.StatusSeeOther)
}

func notAllowed(w http.ResponseWriter, methods string) {
	w.Header().Set("Allow", methods)
	answer(w, http.StatusMethodNotAllowed, "culvert: the method isn't allowed here: use "+methods+"\n")
}

// tooMany tells how long to wait, and returns a text about that.
func tooMany(w http.ResponseWriter, wait time.Duration) string {
	seconds := int((wait + time.Second - 1) / time.Second)
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	return fmt.Sprintf("Too many wrong tokens have come from this address. Try again in %d s.", seconds)
}

// isOwn reports whether a request that changes something comes from a page of this address, or
// has the header that other pages can't send. The guard has refused what comes from others:
// here the browser must have said so.
func isOwn(r *http.Request) bool {
	_, sent := r.Header["Origin"]
	return sent || r.Header.Get("Sec-Fetch-Site") == "same-origin" || r.Header.Get(Header) != ""
}

// formStyle is all that the form loads. It is in the page, and its hash in the policy.
const formStyle = `:root{color-scheme:light dark;font:1rem/1.5 system-ui,sans-serif}body{max-width:24rem;margin:15vh auto 0;padding:0 1rem}` +
	`label,input,button{display:block;font:inherit;margin:.5rem 0}input{box-sizing:border-box;width:100%;padding:.5rem}button{padding:.5rem 1.5rem}`

// formHead and formRest are the form, which needs no script. Between them may be a text. There is
// no template: with one, the linker keeps every exported method of the program.
const (
	formHead = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>culvert: log in</title>
<style>` + formStyle + `</style>
</head>
<body>
<main>
<h1>culvert</h1>
`
	formRest = `<form method="post" action="` + loginPath + `">
<label for="token">Admin token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Log in</button>
</form>
</main>
</body>
</html>
`
)

var formPolicy = func() string {
	sum := sha256.Sum256([]byte(formStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}()

// showForm answers with the form, and with a text above it, unless that is empty.
func showForm(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", formPolicy)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "same-origin") // with no-referrer, the form's Origin would be null
	w.WriteHeader(status)
	if text != "" {
		text = `<p role="alert">` + html.EscapeString(text) + "</p>\n"
	}
	_, _ = io.WriteString(w, formHead+text+formRest) // the caller may be gone
}
