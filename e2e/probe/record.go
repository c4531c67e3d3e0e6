package probe

import "time"

// A Record is what the backend saw of one call. All times are the machine's,
// which the tests share.
type Record struct {
	ID       string              `json:"id"`
	Method   string              `json:"method"`
	Peer     string              `json:"peer"`
	Attempts int                 `json:"attempts"` // how often a call with this id began; more than one is a hidden retry
	Metadata map[string][][]byte `json:"metadata"` // "-bin" values are raw
	Encoding string              `json:"encoding"` // of the requests, by grpc-encoding
	Began    time.Time           `json:"began"`
	Timeout  time.Duration       `json:"timeout"` // what was left of the deadline at the beginning; 0: none

	Received      int64  `json:"received"`
	ReceivedBytes int64  `json:"received_bytes"` // of payloads
	HalfClosed    bool   `json:"half_closed"`    // the client's end was read
	Fault         string `json:"fault"`          // a request that was damaged or out of order
	Sent          int64  `json:"sent"`
	SentBytes     int64  `json:"sent_bytes"` // of payloads

	// The longest time that sending one reply took, and the bytes sent before:
	// a client that doesn't read makes the backend wait.
	Blocked   time.Duration `json:"blocked"`
	BlockedAt int64         `json:"blocked_at"`

	Cancelled time.Time `json:"cancelled"` // the context ended before the handler did; zero: it did not
	Cause     string    `json:"cause"`     // the context's error then
	Ended     time.Time `json:"ended"`     // the handler returned; zero: it runs
	Code      string    `json:"code"`      // the status that it returned
	Status    []byte    `json:"status"`    // the same with message and details: a google.rpc.Status
}

// Values returns the values of the metadata key name.
func (r Record) Values(name string) []string {
	var values []string
	for _, v := range r.Metadata[name] {
		values = append(values, string(v))
	}
	return values
}

// What Control.Wait waits for.
const (
	Now       = "now" // nothing: a call that never began has an empty record
	Began     = "began"
	Cancelled = "cancelled" // the context ended, or the handler did
	Ended     = "ended"
)
