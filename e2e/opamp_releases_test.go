package e2e

import (
	"context"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/open-telemetry/opamp-go/protobufs"
)

// TestOpAMPReleases runs the agents of the published releases of opamp-go from v0.4.0 on.
// Only v0.11.0 and v0.13.0 are missing: they couldn't be fetched when the list was made. Each
// agent says who it is, gets a configuration, and acknowledges it, on every way. v0.4.0
// can't read OpAMP's header, so its WebSocket has to fail: it gets no configuration.
func TestOpAMPReleases(t *testing.T) {
	list, err := os.ReadFile("testdata/opampagent/releases")
	if err != nil {
		t.Fatal(err)
	}
	ways := startOpAMPWays(t)
	programs := t.TempDir()
	for i, line := range strings.Split(strings.TrimSpace(string(list)), "\n") {
		release, tags, _ := strings.Cut(line, " ")
		program := filepath.Join(programs, release)
		build := exec.CommandContext(t.Context(), "testdata/opampagent/release.sh", "build", release, program)
		if text, err := build.CombinedOutput(); err != nil {
			t.Fatalf("the agent of %s: %v\n%s", release, err, text)
		}
		id := []byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f" + string(rune(i)))
		if strings.Contains(tags, "ulid") {
			id = []byte("01ARZ3NDEKTSV4RRFFQ69G5FA" + string(rune('0'+i)))
		}
		for _, way := range ways {
			t.Run(release+" by "+way.name, func(t *testing.T) {
				t.Parallel()
				way.serves(t, program, string(id), release == "v0.4.0" && way.name == "websocket")
			})
		}
	}
}

// An opampWay is one way of agents to a fleet.
type opampWay struct {
	name, url string
	fleet     *fleet
}

const releasesConfig = "receivers: {}"

func startOpAMPWays(t *testing.T) (ways []opampWay) {
	t.Helper()
	for _, way := range []struct{ name, scheme, poll string }{
		{"websocket", "ws", ""},
		{"polls by unary calls", "http", "fleet.v1.Agents/Poll"},
		{"polls of a session", "http", ""},
	} {
		f := startFleet(t)
		f.update("", func(*managed) {})
		f.offer(t, "", releasesConfig)
		c := startCulvert(t, f.address, culvertOptions{config: `
routes:
  - name: agents
    backend: default
    message: {path: /v1/opamp, method: fleet.v1.Agents/Connect, framing: opamp, poll_method: "` + way.poll + `"}
`})
		ways = append(ways, opampWay{way.name, way.scheme + "://" + c.address + "/v1/opamp", f})
	}
	return ways
}

// serves runs an agent until the fleet knows that it has the configuration. One that can't
// read connects again, and never has it.
func (w opampWay) serves(t *testing.T, program, id string, cannotRead bool) {
	ctx, stop := context.WithCancel(t.Context())
	var said strings.Builder
	agent := exec.CommandContext(ctx, program, w.url, hex.EncodeToString([]byte(id)))
	agent.Stdout, agent.Stderr = &said, &said
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stop()
		_ = agent.Wait() // it was killed
		if said.Len() > 0 {
			t.Errorf("the agent says: %s", said.String())
		}
	}()
	configured := func(m *managed) bool {
		s := m.state.GetRemoteConfigStatus()
		return string(s.GetLastRemoteConfigHash()) == "hash of "+releasesConfig && s.GetStatus() == protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED &&
			string(m.state.GetEffectiveConfig().GetConfigMap().GetConfigMap()[""].GetBody()) == releasesConfig
	}
	if !cannotRead {
		w.fleet.awaitFor(t, patience, "the configuration's acknowledgement", id, configured)
		return
	}
	w.fleet.awaitFor(t, patience, "the agent's second connection", id, func(m *managed) bool { return m.streams > 1 })
	w.fleet.await(t, "nothing more", id, func(m *managed) bool {
		if m.state.GetAgentDescription() == nil || configured(m) {
			t.Errorf("an agent that can't read has the state %v", m.state)
		}
		return true
	})
}
