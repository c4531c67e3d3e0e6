package h2

import (
	"errors"
	"fmt"

	"golang.org/x/net/http2"
)

// A connError ends the connection with GOAWAY. RFC 9113 §5.4.1. The functions in conn_frames.go
// return it, and conn_read.go acts on it.
type connError struct {
	code http2.ErrCode
	text string
}

// end returns what the error means for the connection's end.
func (e connError) end() End {
	switch e.code {
	case http2.ErrCodeEnhanceYourCalm:
		return EndFlood
	case http2.ErrCodeSettingsTimeout:
		return EndSlow
	default:
		return EndProtocol
	}
}

func (e connError) Error() string { return fmt.Sprintf("connection error %v: %s", e.code, e.text) }

// A streamError ends one stream with RST_STREAM. RFC 9113 §5.4.2.
type streamError struct {
	stream uint32
	code   http2.ErrCode
	text   string
}

func (e streamError) Error() string {
	return fmt.Sprintf("stream %d: error %v: %s", e.stream, e.code, e.text)
}

// Errors that handlers get from a body or a ResponseWriter whose stream is over.
var (
	errConnClosed   = errors.New("the client's connection is closed")
	errBodyClosed   = errors.New("read of a closed body")
	errHandlerEnded = errors.New("the handler has returned")
	errTooMuch      = errors.New("the handler wrote more than the Content-Length it set")
)

type resetError http2.ErrCode

func (e resetError) Error() string {
	return "the client reset the stream: " + http2.ErrCode(e).String()
}

// A LengthError reports that a request's content doesn't have the length of its
// content-length. RFC 9113 §8.1.1.
type LengthError struct{ Declared, Got int64 }

func (e *LengthError) Error() string {
	if e.Got > e.Declared {
		return fmt.Sprintf("the request holds more than its declared Content-Length of %d bytes", e.Declared)
	}
	return fmt.Sprintf("the request declared a Content-Length of %d bytes and holds %d", e.Declared, e.Got)
}
