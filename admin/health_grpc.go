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
func (h *Health) status(service string) healthpb.HealthCheckResponse_ServingStatus {
	serving := h.ready.Load()
	if service == "" {
		serving = serving && len(h.missing()) == 0
	} else {
		known := false
		for _, b := range h.list() {
			if b.Name == service {
				known, serving = true, serving && b.Usable
			}
		}
		if !known {
			return healthpb.HealthCheckResponse_SERVICE_UNKNOWN
		}
	}
	if serving {
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}

func (h *Health) check(w http.ResponseWriter, r *http.Request) {
	service, ok := beginHealth(w, r)
	if !ok {
		return
	}
	status := h.status(service)
	if status == healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
		refuseHealth(w, codes.NotFound, "no backend has this name")
		return
	}
	if sendHealth(w, status) == nil {
		w.Header().Set("Grpc-Status", "0")
	}
}

func (h *Health) watch(w http.ResponseWriter, r *http.Request) {
	service, ok := beginHealth(w, r)
	if !ok {
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
		changed := h.watches.next() // before the status is read: a change in between is not missed
		if now := h.status(service); now != told {
			if sendHealth(w, now) != nil {
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

// beginHealth reads the request of a call and returns the service that it asks for. If
// ok is false, the call is answered.
func beginHealth(w http.ResponseWriter, r *http.Request) (service string, ok bool) {
	if r.ProtoMajor < 2 {
		answer(w, http.StatusHTTPVersionNotSupported, "culvert: gRPC needs HTTP/2\n")
		return "", false
	}
	// Only writes have a bound: a Watch lasts.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // an error shows in the first write
	service, code, err := readHealth(r.Body)
	if err != nil {
		refuseHealth(w, code, err.Error())
		return "", false
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	return service, true
}

// readHealth reads a request in gRPC's frame: a byte of flags and the length of the
// message. https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
func readHealth(body io.Reader) (service string, code codes.Code, err error) {
	var prefix [5]byte
	if _, err := io.ReadFull(body, prefix[:]); err != nil {
		return "", codes.InvalidArgument, errors.New("the request has no message")
	}
	size := binary.BigEndian.Uint32(prefix[1:])
	switch {
	case prefix[0] != 0:
		return "", codes.Unimplemented, errors.New("the message is compressed, which this address doesn't support")
	case size > maxHealthRequest:
		return "", codes.ResourceExhausted, fmt.Errorf("the message is over the limit of %d bytes", maxHealthRequest)
	}
	message := make([]byte, size)
	if _, err := io.ReadFull(body, message); err != nil {
		return "", codes.InvalidArgument, errors.New("the message is cut off")
	}
	var request healthpb.HealthCheckRequest
	if err := proto.Unmarshal(message, &request); err != nil {
		return "", codes.InvalidArgument, errors.New("the message is no HealthCheckRequest")
	}
	return request.GetService(), codes.OK, nil
}

// sendHealth sends a message.
func sendHealth(w http.ResponseWriter, status healthpb.HealthCheckResponse_ServingStatus) error {
	message, err := proto.Marshal(&healthpb.HealthCheckResponse{Status: status})
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
	_ = control.SetWriteDeadline(time.Time{}) // likewise
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

// next returns a channel that the next wake closes.
func (w *watches) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.changed
}

// wake makes all Watches look again.
func (w *watches) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}
