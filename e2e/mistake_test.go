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
	mistakes := map[string]struct {
		attempt
		says []string
	}{
		"a codec":     {attempt{How: "fetch", Type: "application/connect+xml"}, []string{"application/connect+proto", "application/connect+json"}},
		"a prefix":    {attempt{How: "fetch", Type: "application/grpc-web+proto", URL: s.target + "/api" + wire.Unary}, []string{" " + wire.Unary, "path_prefix"}},
		"two slashes": {attempt{How: "fetch", Type: "application/grpc-web+proto", URL: s.target + "/" + wire.Unary}, []string{" " + wire.Unary, "path_prefix"}},
		"a form":      {attempt{How: "fetch", Type: "text/html"}, []string{"application/grpc,"}},
	}
	listed, foreign := visit{Page: s.page("app.site.test")}, visit{Page: s.page("evil.test")}
	want := map[string][]string{}
	for name, m := range mistakes {
		made := s.make(t, name, m.attempt)
		want[made.ID] = m.says
		listed.Attempts = append(listed.Attempts, made)
		foreign.Attempts = append(foreign.Attempts, s.make(t, name, m.attempt))
	}
	outcomes := s.play(t, listed, foreign)
	for _, a := range listed.Attempts {
		for _, part := range want[a.ID] {
			if o := outcomes[a.ID]; !strings.Contains(o.Said, part) {
				t.Errorf("%s: the page read %+v, want %q in it", a.what, o, part)
			}
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
		return l["msg"] == "refused" && l["level"] == "WARN" && strings.Contains(l["hint"].(string), " "+wire.Unary)
	})
}
