package codec

import (
	"errors"
	"net/url"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/status"
)

// EventID returns the line with the id of a server-sent event, or "" if it has none. An id
// that a client couldn't send back in a header isn't sent: one with a control character, a
// blank at either end, or bytes that aren't UTF-8.
// https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
func EventID(id string) string {
	isControl := func(r rune) bool { return r < 0x20 || r == 0x7F }
	if id == "" || !utf8.ValidString(id) || strings.ContainsFunc(id, isControl) || strings.Trim(id, " ") != id {
		return ""
	}
	return "id: " + id + "\n"
}

// LastEvent returns the event with the status, which ends the events of a call.
func LastEvent(st *status.Status) string {
	return "event: status\ndata: " + string(MessageStatus(st)) + "\n\n"
}

// ErrQuery reports that a query can't be read.
var ErrQuery = errors.New("the query can't be read: write %3B for a semicolon, and %25 for a percent sign")

// ParseMessageQuery returns the message in the query of a URL, which is its parameter
// "message", or "{}" if there is none.
func ParseMessageQuery(raw string) (string, error) {
	query, err := url.ParseQuery(raw)
	switch messages := query["message"]; {
	case err != nil:
		return "", ErrQuery
	case len(messages) > 1:
		return "", errors.New("the query has more than one message")
	case len(messages) == 0:
		return "{}", nil
	default:
		return messages[0], nil
	}
}
