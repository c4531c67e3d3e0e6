package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// ParseRefresh reads a message in JSON that renews a credential: an object whose only member has
// the name, and is a string. ok is false for any other message.
func ParseRefresh(name string, message []byte) (value string, ok bool) {
	if message = bytes.TrimLeft(message, " \t\r\n"); len(message) == 0 || message[0] != '{' {
		return "", false // as most messages that aren't one
	}
	d := json.NewDecoder(bytes.NewReader(message))
	for _, want := range [...]json.Token{json.Delim('{'), name} {
		if t, err := d.Token(); err != nil || t != want {
			return "", false
		}
	}
	member, err := d.Token()
	value, ok = member.(string)
	if err != nil || !ok {
		return "", false
	}
	if t, err := d.Token(); err != nil || t != json.Delim('}') {
		return "", false
	}
	_, err = d.Token()
	return value, errors.Is(err, io.EOF)
}
