package main

import (
	"fmt"
	"net"
	"net/http"
	"strconv"

	"github.com/culvert-grpc/culvert/examples/agent-tunnel/agent"
	"github.com/culvert-grpc/culvert/examples/agent-tunnel/edge"
)

// newControl returns the pages for the edge's operators.
func newControl(e *edge.Edge) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /agents", func(w http.ResponseWriter, _ *http.Request) {
		for _, a := range e.Agents() {
			_, _ = fmt.Fprintf(w, "%-10s %-11s healthy: %-5v requests: %d\n", a.Name, agent.Name(a.Transport), a.Healthy, a.Requests) // or the client has gone
		}
	})
	mux.HandleFunc("POST /move", func(w http.ResponseWriter, r *http.Request) {
		percent, err := strconv.ParseUint(r.FormValue("percent"), 10, 32)
		if err != nil || percent > 100 {
			http.Error(w, "percent must be 0 to 100: the agents that shall use a WebSocket", http.StatusBadRequest)
			return
		}
		e.Move(uint32(percent))
	})
	return mux
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address) // a listener's own
	return port
}
