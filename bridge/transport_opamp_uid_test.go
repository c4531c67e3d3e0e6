package bridge

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/internal/parts"
)

const ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV"

// bodyOf is a message of an agent with this instance_uid, with some text in a field that
// culvert doesn't know.
func bodyOf(uid, text string) []byte {
	m := append([]byte{0x0a, byte(len(uid))}, uid...)
	return append(append(m, 13<<3|2, byte(len(text))), text...)
}

// uuid is the instance_uid of a UUID in its usual form: f81d4fae-7dec-11d0-a765-00a0c91e6bf6.
const (
	uuid     = "\xf8\x1d\x4f\xae\x7d\xec\x11\xd0\xa7\x65\x00\xa0\xc9\x1e\x6b\xf6"
	uuidText = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
	swapped  = "ae4f1df8-ec7d-d011-a765-00a0c91e6bf6" // as Guid.ToString of some .NET agents has it
)

// bothPolls runs a test with polls of a session and with unary polls. The backend answers
// each message with itself, except "silence", and began has the metadata of its calls.
func bothPolls(t *testing.T, test func(t *testing.T, address string, began chan metadata.MD)) {
	for name, change := range map[string]func(*Config){"unary": byUnaryPolls, "session": func(*Config) {}} {
		t.Run(name, func(t *testing.T) {
			began := make(chan metadata.MD, 100)
			_, address := serveAgents(t, func(ss grpc.ServerStream) error {
				md, _ := metadata.FromIncomingContext(ss.Context())
				began <- md
				for {
					var m []byte
					if err := ss.RecvMsg(&m); errors.Is(err, io.EOF) {
						return nil
					} else if err != nil {
						return err
					}
					if bytes.Contains(m, []byte("silence")) {
						return parts.Hold(ss)
					}
					if err := ss.SendMsg(m); err != nil {
						return err
					}
				}
			}, change)
			test(t, address, began)
		})
	}
}

// wantUID checks the metadata opamp-instance-uid of the call that has begun.
func wantUID(t *testing.T, began chan metadata.MD, want string) {
	t.Helper()
	if got := await(t, "the call", began)["opamp-instance-uid"]; len(got) != 1 || got[0] != want {
		t.Errorf("the metadata opamp-instance-uid is %q, want %q alone", got, want)
	}
}

// TestPollsOfULIDs: the ids of OpAMP before 0.9 come back as they came.
func TestPollsOfULIDs(t *testing.T) {
	bothPolls(t, func(t *testing.T, address string, began chan metadata.MD) {
		m := bodyOf(ulid, "hello")
		polled(t, newPoll(t, address, m), m)
		wantUID(t, began, ulid)
		m = bodyOf(strings.ToLower(ulid), "another agent")
		polled(t, newPoll(t, address, m), m)
		wantUID(t, began, strings.ToLower(ulid))
		for _, uid := range []string{"", "me", ulid[1:], ulid + "V", uuidText, ulid[:25] + "\n", ulid[:25] + " ", ulid[:24] + "\xc3\xa9", ulid[:25] + "\x00"} {
			if got := do(t, newPoll(t, address, bodyOf(uid, "hello"))); got.code != http.StatusBadRequest || !strings.Contains(got.body, "instance_uid") {
				t.Errorf("the instance_uid %q: %d %s, want 400", uid, got.code, got.body)
			}
		}
		if len(began) > 0 {
			t.Errorf("the backend got a poll with a bad instance_uid: %v", <-began)
		}
	})
}

// TestULIDInAnEmptyAnswer: culvert's own answer has the agent's id.
func TestULIDInAnEmptyAnswer(t *testing.T) {
	_, address := serveAgents(t, parts.Hold, nil)
	polled(t, newPoll(t, address, bodyOf(ulid, "silence")), []byte("\x0a\x1a"+ulid))
}

// TestMessageDecidesOverTheHeader: the header OpAMP-Instance-UID is for load balancers.
func TestMessageDecidesOverTheHeader(t *testing.T) {
	bothPolls(t, func(t *testing.T, address string, began chan metadata.MD) {
		sessions := 0
		for i, header := range []string{uuidText, swapped, strings.ToUpper(uuidText), "me", ulid, "", strings.Repeat("x", 1000)} {
			m := bodyOf(uuid, "hello")
			polled(t, newPoll(t, address, m, "OpAMP-Instance-UID", header), m)
			if i == 0 || len(began) > 0 {
				wantUID(t, began, uuidText)
				sessions++
			}
		}
		if sessions != 1 && sessions != 7 {
			t.Errorf("%d calls of 7 polls of an agent", sessions)
		}
		r := newPoll(t, address, bodyOf(ulid, "two headers"))
		r.Header["Opamp-Instance-Uid"] = []string{uuidText, swapped}
		polled(t, r, bodyOf(ulid, "two headers"))
		wantUID(t, began, ulid)
		r = newPoll(t, address, bodyOf(strings.ToLower(ulid), "no header"))
		polled(t, r, bodyOf(strings.ToLower(ulid), "no header"))
		wantUID(t, began, strings.ToLower(ulid))
	})
}
