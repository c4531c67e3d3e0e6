package codec

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// A ConnectGet is a unary Connect request by GET, which is all in its query.
// https://connectrpc.com/docs/protocol#unary-get-request
type ConnectGet struct {
	Encoding    string // of the message: "proto" or "json"
	Compression string // of the message, as the client names it
	Message     []byte
}

// ErrConnectEncoding reports that a query has another encoding of the message.
var ErrConnectEncoding = errors.New("the query's encoding isn't one of messages: use encoding=proto or encoding=json")

// ParseConnectGet parses the query of a GET request, in any order of its parameters. It
// ignores other parameters, and refuses one of Connect's that occurs twice. It accepts
// base64 with and without padding.
func ParseConnectGet(query string) (ConnectGet, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return ConnectGet{}, errors.New("the query has a malformed parameter") // url's error has the parameter, perhaps a secret
	}
	for _, name := range []string{"connect", "encoding", "compression", "base64", "message"} {
		if len(values[name]) > 1 {
			return ConnectGet{}, fmt.Errorf("the query has %s more than once", name)
		}
	}
	g := ConnectGet{Encoding: values.Get("encoding"), Compression: values.Get("compression")}
	switch {
	case values.Get("connect") != "v1":
		return ConnectGet{}, errors.New(`the query needs connect=v1`)
	case g.Encoding == "":
		return ConnectGet{}, errors.New("the query needs encoding=proto or encoding=json")
	case g.Encoding != "proto" && g.Encoding != "json":
		return ConnectGet{}, ErrConnectEncoding
	case len(values["message"]) == 0:
		return ConnectGet{}, errors.New("the query has no message")
	}
	g.Message = []byte(values.Get("message"))
	switch values.Get("base64") {
	case "":
	case "1":
		g.Message, err = decodeBase64URL(values.Get("message"))
	default:
		err = errors.New("the query has another base64 than base64=1")
	}
	if err != nil {
		return ConnectGet{}, err
	}
	return g, nil
}

// decodeBase64URL decodes the alphabet of RFC 4648 §5, padded or not.
func decodeBase64URL(s string) ([]byte, error) {
	const bad = "the query's message isn't base64 of the URL-safe alphabet"
	if strings.ContainsAny(s, "\r\n") { // package base64 skips them
		return nil, errors.New(bad)
	}
	enc := base64.RawURLEncoding
	if len(s)%4 == 0 {
		enc = base64.URLEncoding // padded, or nothing to pad
	}
	b, err := enc.DecodeString(s)
	if err != nil {
		return nil, errors.New(bad)
	}
	return b, nil
}
