package answer

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/culvert-grpc/culvert/internal/terminal"
)

// An Answer is one over HTTP that isn't what was asked for, for people: culvert refuses the
// request, or somebody else answers it.
type Answer struct {
	Culvert bool // it has a sign of culvert's own
	Status  int
	Reason  string // culvert's
	Type    string // the content type
	Says    string // the title of a page, or the beginning of a text
	Server  string
	Via     string
	Product string // that the answer names, for the doctor
}

const (
	maxPage  = 4 << 10
	maxSays  = 320
	maxField = 100
)

// Of reads who has answered, and returns the page, too: the beginning of the body, as far as it
// comes in a moment. It closes the body.
func Of(status int, h http.Header, body io.ReadCloser) (a *Answer, page []byte) {
	field := func(name string) string { return terminal.Short(strings.Join(h.Values(name), ", "), maxField) }
	page = Page(body, body, maxPage)
	_ = body.Close() // what has come is enough
	kind, _, _ := strings.Cut(field("Content-Type"), ";")
	a = &Answer{Status: status, Reason: field("Culvert-Reason"), Type: kind, Says: terminal.Says(page, maxSays), Server: field("Server"), Via: field("Via")}
	a.Culvert = a.Reason != ""
	return a, page
}

// String is what was answered, and by whom as far as that is known: "culvert answered 404, …", or
// "answered 403, …".
func (a *Answer) String() string {
	text := fmt.Sprintf("answered %d", a.Status)
	kind, says := a.Type, ""
	if a.Culvert {
		text, kind = "culvert "+text, ""
	}
	if a.Says != "" {
		says = fmt.Sprintf("%q", a.Says)
	}
	for _, part := range [...][2]string{{"", a.Reason}, {"", kind}, {"", says}, {"Server: ", a.Server}, {"Via: ", a.Via}} {
		if part[1] != "" {
			text += ", " + part[0] + part[1]
		}
	}
	return text
}
