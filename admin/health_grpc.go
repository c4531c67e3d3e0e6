package admin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
)

// The calls of grpc.health.v1 are served by net/http, because (*grpc.Server).ServeHTTP
// queues what a client sends without a bound.
// https://github.com/grpc/grpc/blob/master/doc/health-checking.md

// Bounds on what callers of grpc.health.v1 can hold.
const (
	maxHealthStreams = 16      // calls at once on a connection
	maxHealthRequest = 1 << 10 // bytes of a request: a name
	maxWatches       = 100     // at once

	// A Watch looks at the backends at this interval. It learns at once when culvert
	// drains.
	watchInterval = time.Second
	writeTimeout  = 5 * time.Second
)

// status returns the status of a service: "" is culvert as /readyz tells it, any other
// the backend of that name.
func (h *Health) status(service string, backends []Backend) healthpb.HealthCheckResponse_ServingStatus {
	if service == "" {
		return h.serving(len(missing(backends)) == 0)
	}
	for _, b := range backends {
		if b.Name == service {
			return h.serving(b.Usable)
		}
	}
	return healthpb.HealthCheckResponse_SERVICE_UNKNOWN
}

// serving returns the status of something usable, which culvert serves unless it
// drains.
func (h *Health) serving(usable bool) healthpb.HealthCheckResponse_ServingStatus {
	if usable && h.ready.Load() {
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}

func (h *Health) check(w http.ResponseWriter, r *http.Request) {
	var request healthpb.HealthCheckRequest
	if !beginHealth(w, r, &request) {
		return
	}
	status := h.status(request.GetService(), h.list())
	if status == healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
		refuseHealth(w, codes.NotFound, "no backend has this name")
		return
	}
	if sendHealth(w, &healthpb.HealthCheckResponse{Status: status}) == nil {
		w.Header().Set("Grpc-Status", "0")
	}
}

func (h *Health) listAll(w http.ResponseWriter, r *http.Request) {
	if !beginHealth(w, r, new(healthpb.HealthListRequest)) {
		return
	}
	backends := h.list()
	statuses := map[string]*healthpb.HealthCheckResponse{"": {Status: h.status("", backends)}}
	for _, b := range backends {
		statuses[b.Name] = &healthpb.HealthCheckResponse{Status: h.serving(b.Usable)}
	}
	if sendHealth(w, &healthpb.HealthListResponse{Statuses: statuses}) == nil {
		w.Header().Set("Grpc-Status", "0")
	}
}

func (h *Health) watch(w http.ResponseWriter, r *http.Request) {
	var request healthpb.HealthCheckRequest
	if !beginHealth(w, r, &request) {
		return
	}
	if !h.watches.begin() {
		refuseHealth(w, codes.ResourceExhausted, fmt.Sprintf("%d Watches run, which is the limit", maxWatches))
		return
	}
	defer h.watches.end()
	interval := time.NewTicker(watchInterval)
	defer interval.Stop()
	told := healthpb.HealthCheckResponse_UNKNOWN
	for {
		changed, over := h.watches.next() // before the status is read: a change in between is not missed
		if over {
			w.Header().Set("Grpc-Status", strconv.Itoa(int(codes.Unavailable)))
			w.Header().Set("Grpc-Message", "culvert ends")
			return
		}
		if now := h.status(request.GetService(), h.watches.look(h.list)); now != told {
			if sendHealth(w, &healthpb.HealthCheckResponse{Status: now}) != nil {
				return
			}
			told = now
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-interval.C:
		}
	}
}

// beginHealth reads the request of a call. If it returns false, the call is answered.
func beginHealth(w http.ResponseWriter, r *http.Request, request proto.Message) bool {
	if r.ProtoMajor < 2 {
		answer(w, http.StatusHTTPVersionNotSupported, "culvert: gRPC needs HTTP/2\n")
		return false
	}
	// Only writes have a bound: a Watch lasts.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // an error shows in the first write
	if code, err := readHealth(r.Body, request); err != nil {
		refuseHealth(w, code, err.Error())
		return false
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
	return true
}

// readHealth reads a request in gRPC's frame: a byte of flags and the length of the
// message. https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
func readHealth(body io.Reader, request proto.Message) (codes.Code, error) {
	var prefix [5]byte
	if _, err := io.ReadFull(body, prefix[:]); err != nil {
		return codes.InvalidArgument, errors.New("the request has no message")
	}
	size := binary.BigEndian.Uint32(prefix[1:])
	switch {
	case prefix[0] != 0:
		return codes.Unimplemented, errors.New("the message is compressed, which this address doesn't support")
	case size > maxHealthRequest:
		return codes.ResourceExhausted, fmt.Errorf("the message is over the limit of %d bytes", maxHealthRequest)
	}
	message := make([]byte, size)
	if _, err := io.ReadFull(body, message); err != nil {
		return codes.InvalidArgument, errors.New("the message is cut off")
	}
	if err := proto.Unmarshal(message, request); err != nil {
		return codes.InvalidArgument, fmt.Errorf("the message is no %s", request.ProtoReflect().Descriptor().Name())
	}
	return codes.OK, nil
}

func sendHealth(w http.ResponseWriter, m proto.Message) error {
	message, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	frame = append(frame, message...)
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(writeTimeout)) // an error shows in the write
	if _, err := w.Write(frame); err != nil {
		return err
	}
	if err := control.Flush(); err != nil {
		return err
	}
	_ = control.SetWriteDeadline(time.Time{}) // an error shows in the next write
	return nil
}

// refuseHealth ends a call without a message.
func refuseHealth(w http.ResponseWriter, code codes.Code, text string) {
	w.Header().Del("Trailer")
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Grpc-Status", strconv.Itoa(int(code)))
	w.Header().Set("Grpc-Message", text)
	w.WriteHeader(http.StatusOK)
}

// watches are the Watches that run. The zero value is ready to use.
type watches struct {
	mu      sync.Mutex
	running int
	changed chan struct{} // closed at the next wake; nil: nobody waits for it
	over    bool          // Watches end, because the server does

	looking  sync.Mutex
	looked   time.Time
	backends []Backend // as of looked
}

// lookInterval is how long Watches share a look at the backends, which waits for locks
// that calls need.
const lookInterval = watchInterval / 2

// look returns list's result, or that of another Watch a moment ago.
func (w *watches) look(list func() []Backend) []Backend {
	w.looking.Lock()
	defer w.looking.Unlock()
	if w.looked.IsZero() || time.Since(w.looked) >= lookInterval {
		w.backends, w.looked = list(), time.Now()
	}
	return w.backends
}

// begin counts a Watch until end, or returns false if there are too many.
func (w *watches) begin() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running >= maxWatches {
		return false
	}
	w.running++
	return true
}

func (w *watches) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running--
}

// next returns a channel that the next wake closes, and whether Watches end now.
func (w *watches) next() (changed <-chan struct{}, over bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.changed, w.over
}

func (w *watches) stop() {
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	w.wake()
}

func (w *watches) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}
