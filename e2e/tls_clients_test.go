package e2e

import (
	"strings"
	"testing"
)

// Published clients over culvert's own TLS, with nothing between: what differs
// from plaintext is who they trust and what ALPN gives them, so a few scenarios of
// each kind of call are enough. The others are those of TestPublishedClients.
func TestPublishedClientsOverTLS(t *testing.T) {
	ca := newIssuer(t, "ca")
	b := startBackend(t, backendOptions{})
	page := servePage(t, bundlePage(t))
	c := startTLS(t, ca, b.address, "", "--allow-origin", page)
	t.Setenv("NODE_EXTRA_CA_CERTS", ca.file)

	names := []string{
		"unary", "server stream", "client stream", "bidi, each request after a reply", "many replies in order", "empty messages",
		"metadata of the request", "metadata of the response", "an error and nothing else", "an error after replies", "unicode in messages",
	}
	clients := []string{
		"node connect-node grpc", "node connect-node grpc-web http1", "node connect-web", "node culvert-web", "node improbable websocket", "node nice websocket",
		"chromium connect-web", "chromium culvert-web", "chromium grpc-web binary", "chromium improbable fetch", "chromium improbable websocket", "chromium nice websocket",
	}
	var jobs []job
	byName := map[string]scenario{}
	for _, s := range scenarios {
		byName[s.name] = s
	}
	for _, client := range clients {
		for _, name := range names {
			s, ok := byName[name]
			if !ok {
				t.Fatalf("no scenario %q", name)
			}
			if limited(client, s) != nil {
				continue
			}
			j := s.job(t, client)
			j.Address, j.Page = "https://"+c.address, page
			jobs = append(jobs, j)
		}
	}
	seen := runJobs(t, jobs)
	for _, j := range jobs {
		t.Run(strings.ReplaceAll(j.Client+"/"+j.Scenario, " ", "_"), func(t *testing.T) {
			if v := byName[j.Scenario].judge(t, seen[j.ID], b); len(v.problems) > 0 {
				t.Errorf("%s\nseen by the client: %+v", strings.Join(v.problems, "\n"), seen[j.ID])
			}
		})
	}
}
