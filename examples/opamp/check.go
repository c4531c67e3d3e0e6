package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/culvert-grpc/culvert/examples/internal/run"
	"github.com/culvert-grpc/culvert/examples/opamp/fleetpb"
)

// A watcher does by HTTP what the page does.
type watcher struct {
	url    string
	events *bufio.Scanner
	agents map[string]*fleetpb.Agent // by name
	lines  map[string]string         // the last one of each agent
}

// check watches the fleet, configures it, and has an agent leave and come back.
func check(ctx context.Context, url string, agents map[string]*agent) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/watch", http.NoBody)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	w := &watcher{url, bufio.NewScanner(answer.Body), make(map[string]*fleetpb.Agent), make(map[string]string)}

	all := func(is func(*fleetpb.Agent) bool) func() bool {
		return func() bool {
			n := 0
			for _, a := range w.agents {
				if is(a) {
					n++
				}
			}
			return n == len(agents)
		}
	}
	is30s := func(a *fleetpb.Agent) bool {
		return a.GetConfig() == "interval: 30s" && !a.GetPending() && !a.GetGone()
	}
	for _, step := range []struct {
		do   func() error
		seen func() bool
		what string
	}{
		{
			func() error { return nil },
			all((*fleetpb.Agent).GetHealthy),
			"all agents are healthy",
		},
		{
			func() error { return w.push(ctx, "", "interval: 30s") },
			all(is30s),
			"all agents have the configuration",
		},
		{
			func() error { return w.push(ctx, "web-1", "interval: soon") },
			func() bool {
				return w.agents["web-1"].GetRefusal() != "" && w.agents["web-1"].GetConfig() == "interval: 30s"
			},
			"web-1 refuses a configuration, and keeps its own",
		},
		{
			func() error { return w.push(ctx, "sensor-1", "interval: 5ms") },
			func() bool { return w.agents["sensor-1"].GetHealthError() != "" },
			"sensor-1 isn't healthy with one",
		},
		{
			func() error { agents["web-2"].stop(ctx); return nil },
			func() bool { return w.agents["web-2"].GetGone() },
			"web-2 is gone",
		},
		{
			func() error { return agents["web-2"].start(ctx) },
			func() bool { return is30s(w.agents["web-2"]) },
			"web-2 is back, and has got the configuration of all",
		},
	} {
		if err := step.do(); err != nil {
			return err
		}
		for !step.seen() {
			if err := w.next(); err != nil {
				return fmt.Errorf("waiting until %s: %w", step.what, err)
			}
		}
		run.Say("check", "%s", step.what)
	}
	return nil
}

// next reads the next event, and prints what it changes in the page.
func (w *watcher) next() error {
	for w.events.Scan() {
		data, ok := strings.CutPrefix(w.events.Text(), "data: ")
		if !ok {
			continue
		}
		a := new(fleetpb.Agent)
		if err := protojson.Unmarshal([]byte(data), a); err != nil {
			return fmt.Errorf("%w in %s", err, data)
		}
		w.agents[a.GetName()] = a
		line := describe(a)
		if w.lines[a.GetName()] != line {
			w.lines[a.GetName()] = line
			run.Say("page", "%s: %s", a.GetName(), line)
		}
		return nil
	}
	if err := w.events.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// describe returns what the page shows of an agent.
func describe(a *fleetpb.Agent) string {
	parts := []string{a.GetTransport(), "healthy", fmt.Sprintf("%q", a.GetConfig())}
	if !a.GetHealthy() {
		parts[1] = cmp.Or(a.GetHealthError(), "unknown")
	}
	if a.GetPending() {
		parts = append(parts, "waits for the agent")
	}
	if a.GetRefusal() != "" {
		parts = append(parts, "refused: "+a.GetRefusal())
	}
	if a.GetGone() {
		parts = append(parts, "gone")
	}
	return strings.Join(parts, ", ")
}

// push pushes a configuration to an agent, or to all.
func (w *watcher) push(ctx context.Context, name, config string) error {
	body, err := protojson.Marshal(&fleetpb.ConfigureRequest{InstanceUid: w.agents[name].GetInstanceUid(), Config: config})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"/configure", strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s", answer.Status, text)
	}
	return err
}
