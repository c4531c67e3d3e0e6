package main

import (
	"encoding/json"
	"hash/fnv"
	"io"
	"net/http"
	"sync"
)

// raws is the handler of requests that aren't gRPC calls, for tests of HTTP/2 alone. It
// does what the request's field "script" says, and keeps what it saw.
type raws struct {
	mu   sync.Mutex
	seen map[string]*rawSeen // by the request's field "id"
}

// rawScript is what a request asks for.
type rawScript struct {
	Status  int         `json:"status"`
	Header  [][2]string `json:"header"`
	Content []int       `json:"content"` // the sizes of the pieces, by [rawContent]
	Trailer [][2]string `json:"trailer"`
	// What becomes of the request's content: "first" is read before the answer begins, "beside"
	// it, or "not" at all.
	Read  string `json:"read"`
	Abort bool   `json:"abort"` // the stream is reset in place of its end
}

// rawSeen is what came of a request.
type rawSeen struct {
	Header http.Header `json:"header"` // values are bytes as Latin-1
	Size   int         `json:"size"`   // of the content
	Sum    uint32      `json:"sum"`    // FNV-1a of the content
	Ended  bool        `json:"ended"`  // by END_STREAM
	done   chan struct{}
}

func (rs *raws) of(id string) *rawSeen {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.seen == nil {
		rs.seen = map[string]*rawSeen{}
	}
	if rs.seen[id] == nil {
		rs.seen[id] = &rawSeen{done: make(chan struct{})}
	}
	return rs.seen[id]
}

// ServeHTTP serves a request that has an id of its own.
func (rs *raws) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	seen := rs.of(r.Header.Get("id"))
	defer close(seen.done)
	var script rawScript
	if err := json.Unmarshal([]byte(r.Header.Get("script")), &script); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	seen.Header = latin1(r.Header)
	var reading sync.WaitGroup
	defer reading.Wait()
	switch script.Read {
	case "first":
		seen.take(r.Body)
	case "beside":
		reading.Go(func() { seen.take(r.Body) })
	}
	for _, f := range script.Header {
		w.Header().Add(f[0], bytesOf(f[1]))
	}
	w.WriteHeader(script.Status)
	if flush(w) != nil {
		return // the client is gone, or has cancelled
	}
	for i, n := range script.Content {
		if _, err := w.Write(rawContent(i, n)); err != nil || flush(w) != nil {
			return
		}
	}
	reading.Wait()
	if script.Abort {
		panic(http.ErrAbortHandler)
	}
	for _, f := range script.Trailer {
		w.Header().Add(http.TrailerPrefix+f[0], bytesOf(f[1]))
	}
}

func flush(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() }

// take reads the content.
func (s *rawSeen) take(body io.Reader) {
	sum := fnv.New32a()
	n, err := io.Copy(sum, body)
	s.Size, s.Sum, s.Ended = int(n), sum.Sum32(), err == nil
}

// rawContent is a piece of content, which the test can make, too.
func rawContent(piece, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + piece)
	}
	return b
}

// tell answers a test that asks for what came of the request "id", once it has ended.
func (rs *raws) tell(w http.ResponseWriter, r *http.Request) {
	seen := rs.of(r.FormValue("id"))
	select {
	case <-seen.done:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(seen) // who asked is gone
	case <-r.Context().Done():
	}
}

func bytesOf(latin1 string) string {
	var b []byte
	for _, r := range latin1 {
		b = append(b, byte(r))
	}
	return string(b)
}

func latin1(h http.Header) http.Header {
	out := http.Header{}
	for name, values := range h {
		for _, v := range values {
			var text []rune
			for _, b := range []byte(v) {
				text = append(text, rune(b))
			}
			out.Add(name, string(text))
		}
	}
	return out
}
