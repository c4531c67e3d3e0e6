package main

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
)

// refreshes answers culvert.v1.Session/Refresh in the tunnels of a path whose rule says how,
// and has the tokens that came. It knows no identity, and ends no call.
type refreshes struct {
	mu      sync.Mutex
	came    map[string][]string // authorizations, by path
	changed chan struct{}       // closed and replaced when one comes
}

const refreshPath = "/culvert.v1.Session/Refresh"

// hangs in a rule's session means that a refresh isn't answered.
const hangs = -1

func newRefreshes() *refreshes {
	return &refreshes{came: map[string][]string{}, changed: make(chan struct{})}
}

// answer answers one refresh by the code that the rule has for it. The last one is for all further ones.
func (rs *refreshes) answer(path string, codes []int, w http.ResponseWriter, r *http.Request) {
	rs.mu.Lock()
	code := codes[min(len(rs.came[path]), len(codes)-1)]
	rs.came[path] = append(rs.came[path], r.Header.Get("Authorization"))
	close(rs.changed)
	rs.changed = make(chan struct{})
	rs.mu.Unlock()
	if code == hangs {
		<-r.Context().Done()
		return
	}
	w.Header().Set("Content-Type", "application/grpc")
	if code != 0 {
		w.Header().Set("Grpc-Status", strconv.Itoa(code))
		w.Header().Set("Grpc-Message", "a rule says so")
		return
	}
	w.Header().Set("Trailer", "Grpc-Status")
	_, _ = w.Write(make([]byte, 5)) // an empty message; the client may be gone
	w.Header().Set("Grpc-Status", "0")
}

// tell waits until so many have come, and lists them.
func (rs *refreshes) tell(w http.ResponseWriter, r *http.Request) {
	count, _ := strconv.Atoi(r.FormValue("count")) // 0: it waits for none
	for {
		rs.mu.Lock()
		changed, came := rs.changed, rs.came[r.FormValue("path")]
		rs.mu.Unlock()
		if len(came) >= count {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(append([]string{}, came...)) // who asked is gone
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}
