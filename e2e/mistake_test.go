package e2e

import (
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A page that may call and makes a mistake reads what is wrong, in Chromium and
// with a preflight on the way. A page that may not reads nothing.
func TestListedPageReadsItsMistake(t *testing.T) {
	s := startSite(t, itself, "", "app.site.test")
	mistakes := map[string]attempt{
		"application/json isn't spoken here: use createGrpcWebTransport": {How: "fetch", Type: "application/json"},
		"did you mean " + wire.Unary + "?":                               {How: "fetch", Type: "application/grpc-web+proto", URL: s.target + "/api" + wire.Unary},
		"did you mean " + wire.Unary + "? Check":                         {How: "fetch", Type: "application/grpc-web+proto", URL: s.target + "/" + wire.Unary},
		"want application/grpc,":                                         {How: "fetch", Type: "text/html"},
	}
	listed, foreign := visit{Page: s.page("app.site.test")}, visit{Page: s.page("evil.test")}
	want := map[string]string{}
	for says, a := range mistakes {
		made := s.make(t, says, a)
		want[made.ID] = says
		listed.Attempts = append(listed.Attempts, made)
		foreign.Attempts = append(foreign.Attempts, s.make(t, says, a))
	}
	outcomes := s.play(t, listed, foreign)
	for _, a := range listed.Attempts {
		if o := outcomes[a.ID]; !strings.Contains(o.Said, want[a.ID]) {
			t.Errorf("%s: the page read %+v", want[a.ID], o)
		}
	}
	for _, a := range foreign.Attempts {
		if o, ok := outcomes[a.ID]; !ok || o.Said != "" {
			t.Errorf("%s: a foreign page read %+v", a.what, o)
		}
	}
	wantRefused(t, foreign, outcomes)
	s.wantOnly(t)
	s.loggedLike(t, func(l map[string]any) bool {
		return l["msg"] == "refused" && l["level"] == "WARN" && strings.Contains(l["hint"].(string), "did you mean "+wire.Unary)
	})
}
