package bridgetest

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"io"
	"net/http"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// isStatus reports whether a message in JSON is the status at the call's end.
func isStatus(b []byte) bool { return bytes.HasPrefix(b, []byte(`{"@status":`)) }

// lastStatus reads the status at the end of a call of bare messages. name is that of its
// code.
func lastStatus(b []byte) (st *status.Status, name string, err error) {
	var last struct {
		Status struct {
			Code    uint32
			Status  string
			Message string
			Details []struct{ Type, Value string }
		} `json:"@status"`
	}
	if err := strictly(b, &last); err != nil {
		return nil, "", err
	}
	name = cmp.Or(code.Code_name[int32(last.Status.Code)], "UNKNOWN")
	if last.Status.Status != name {
		return nil, "", violation("status %q with the code %d", last.Status.Status, last.Status.Code)
	}
	st, err = jsonStatus(codes.Code(last.Status.Code), last.Status.Message, last.Status.Details)
	return st, name, err
}

// judgePlain checks the head of an answer with lines or events, or of a failure before
// the first.
func (r *reply) judgePlain() (err error) {
	want := "application/json"
	switch {
	case r.resp.StatusCode == http.StatusOK && r.dialect == dialectPoll:
		want = dialectPoll.contentType()
	case r.resp.StatusCode == http.StatusOK && r.dialect == dialectEvents:
		want = "text/event-stream"
	case r.resp.StatusCode == http.StatusOK:
		want = "application/x-ndjson"
	}
	if got := r.resp.Header.Get("content-type"); got != want {
		return errors.Join(&httpError{r.resp.StatusCode}, violation("content-type %q, want %q", got, want))
	}
	r.tail = metadata.MD{}
	r.head, err = decodeFields(r.resp.Header)
	return err
}

// nextPlain returns a message, and at last the end.
func (r *reply) nextPlain() ([]byte, error) {
	if r.dialect == dialectPost || r.dialect == dialectPoll || r.resp.StatusCode != http.StatusOK {
		return r.nextUnary()
	}
	event, data, err := r.nextLine()
	switch {
	case err != nil:
		return nil, err
	case !isStatus(data) && event == "":
		return r.decoded(data)
	case isStatus(data) != (event == "status" || r.dialect == dialectLines):
		return nil, violation("an event %q with %q", event, data)
	}
	if r.st, _, err = lastStatus(data); err != nil {
		return nil, err
	}
	return nil, r.endAfter("the status")
}

// decoded returns the bytes of a message in JSON.
func (r *reply) decoded(text []byte) ([]byte, error) {
	b, err := jsonFraming.decode(text)
	if r.typed {
		b = typed(b)
	}
	return b, err
}

// nextLine reads a line, or an event of one line of data with or without a name.
func (r *reply) nextLine() (event string, data []byte, err error) {
	text := r.frames.(*bufio.Reader)
	line := func() string {
		var b []byte
		if err == nil {
			if b, err = text.ReadBytes('\n'); errors.Is(err, io.EOF) {
				err = violation("the answer ended without a status, with %.40q", b)
			}
		}
		return strings.TrimSuffix(string(b), "\n")
	}
	first := line()
	if r.dialect == dialectLines {
		return "", []byte(first), err
	}
	event, named := strings.CutPrefix(first, "event: ")
	if named {
		first = line()
	} else {
		event = ""
	}
	value, isData := strings.CutPrefix(first, "data: ")
	if blank := line(); err == nil && (!isData || blank != "") {
		err = violation("an event with the lines %q and %q", first, blank)
	}
	return event, []byte(value), err
}
