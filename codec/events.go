package codec

import (
	"errors"
	"net/url"
	"strings"

	"google.golang.org/grpc/status"
)

// EventID returns the line with the id of a server-sent event, or "" if it has none. Bytes
// that would end the line can't be in an id.
// https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
func EventID(id string) string {
	if id == "" || strings.ContainsAny(id, "\r\n\x00") {
		return ""
	}
	return "id: " + id + "\n"
}

// LastEvent returns the event with the status, which ends the events of a call.
func LastEvent(st *status.Status) string {
	return "event: status\ndata: " + string(MessageStatus(st)) + "\n\n"
}

// ParseMessageQuery returns the message in the query of a URL, which is its parameter
// "message", or "{}" if there is none.
func ParseMessageQuery(raw string) (string, error) {
	query, err := url.ParseQuery(raw)
	switch messages := query["message"]; {
	case err != nil:
		return "", errors.New("the query can't be read: write %3B for a semicolon, and %25 for a percent sign")
	case len(messages) > 1:
		return "", errors.New("the query has more than one message")
	case len(messages) == 0:
		return "{}", nil
	default:
		return messages[0], nil
	}
}
