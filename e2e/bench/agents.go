package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// agentCosts is what culvert promises of OpAMP's agents, of which there are many and
// nearly all are idle.
var agentCosts = []weight{
	{"memory of an idle OpAMP agent on a WebSocket, 10,000 of them, pings on", "KiB", 40, 30, false, []string{agents}, memoryEach(connectAgents)},
	{"memory of an OpAMP agent between two polls, 10,000 of them", "KiB", 16, 12, false, []string{agents, agentsByUnary}, memoryEach(pollAgents)},
}

// culvert with a route for agents. With agentsByUnary, polls are unary calls, and culvert
// keeps nothing between them.
const (
	agents        = "culvert, agents"
	agentsByUnary = "culvert, agents, `message.poll_method`"
	agentsPath    = "/v1/opamp"
)

func (a *arena) culvertAgents(ctx context.Context, name string) (*peer, error) {
	poll := ""
	if name == agentsByUnary {
		poll = ", poll_method: " + methodEcho[1:]
	}
	config := "routes:\n" +
		"  - {name: agents, backend: default, message: {path: " + agentsPath + ", method: " + methodEcho[1:] + ", framing: opamp" + poll + "}}\n" +
		"  - {name: calls, backend: default}\n"
	return a.culvertWith(ctx, &peer{name: name}, nil, config)
}

// agentMessage is the n-th agent's AgentToServer.
func agentMessage(n int) []byte {
	m := make([]byte, 18)
	m[0], m[1] = 0x0a, 16 // instance_uid
	binary.BigEndian.PutUint32(m[2:], uint32(n))
	return append(m, 0x10, 1) // sequence_num
}

// memoryEach weighs clients that have each sent one message and got its answer, and have been
// pinged since.
func memoryEach(begin func(context.Context, *peer) (end func(), err error)) measure {
	return fresh(func(ctx context.Context, p *peer) (float64, error) {
		before, err := p.warm(ctx, newWebSocketClient(p))
		if err != nil {
			return 0, err
		}
		end, err := begin(ctx, p)
		defer end()
		if err != nil {
			return 0, err
		}
		if err := pause(ctx, 25*time.Second); err != nil { // longer than between two pings
			return 0, err
		}
		after, err := p.resident()
		return float64(after-before) / idleStreams / 1024, err
	})
}

// connectAgents opens a WebSocket for each agent, and goes on reading. end closes them and
// waits.
func connectAgents(ctx context.Context, p *peer) (end func(), err error) {
	var reading sync.WaitGroup
	var open []*websocket.Conn
	end = func() {
		for _, ws := range open {
			_ = ws.CloseNow() // the agent is no longer needed
		}
		reading.Wait()
	}
	for n := range idleStreams {
		ws, _, err := websocket.Dial(ctx, "ws://"+p.address+agentsPath, nil)
		if err != nil {
			return end, fmt.Errorf("agent %d: %w", n, err)
		}
		open = append(open, ws)
		message := append([]byte{0}, agentMessage(n)...) // after OpAMP's header
		if err := ws.Write(ctx, websocket.MessageBinary, message); err != nil {
			return end, err
		}
		if _, got, err := ws.Read(ctx); err != nil || !bytes.Equal(got, message) {
			return end, fmt.Errorf("agent %d got %x: %w", n, got, err)
		}
		reading.Go(func() { _, _, _ = ws.Read(ctx) }) // answers pings until the end
	}
	return end, nil
}

// pollAgents sends a poll for each agent, over one connection.
func pollAgents(ctx context.Context, p *peer) (end func(), err error) {
	for n := range idleStreams {
		if err := pollAs(ctx, p, n); err != nil {
			return func() {}, fmt.Errorf("agent %d: %w", n, err)
		}
	}
	return func() {}, nil
}

func pollAs(ctx context.Context, p *peer, n int) error {
	message := agentMessage(n)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.address+agentsPath, bytes.NewReader(message))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK || !bytes.Equal(got, message) {
		return fmt.Errorf("%s %q", answer.Status, got)
	}
	return nil
}
