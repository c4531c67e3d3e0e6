package websocket

import coder "github.com/coder/websocket"

// A StatusCode says why a WebSocket was closed. RFC 6455 §7.4.
type StatusCode = coder.StatusCode

// The codes that other packages name, and the one that stands for none.
const (
	StatusNormalClosure   = coder.StatusNormalClosure
	StatusGoingAway       = coder.StatusGoingAway
	StatusProtocolError   = coder.StatusProtocolError
	StatusUnsupportedData = coder.StatusUnsupportedData
	StatusNoStatusRcvd    = coder.StatusNoStatusRcvd // nothing is sent
	StatusPolicyViolation = coder.StatusPolicyViolation
	StatusMessageTooBig   = coder.StatusMessageTooBig
)

// CloseStatus is the code of the close frame that made a read return err, or
// -1 if it was none.
func CloseStatus(err error) StatusCode { return coder.CloseStatus(err) }

// A RuleError is a rule that the client broke: of RFC 6455, of what it may do for
// nothing, or of a frame's length. The client is told its code.
type RuleError struct {
	Code   StatusCode // StatusPolicyViolation for what it did for nothing, StatusMessageTooBig for a length
	Broken string     // the rule
}

func (e RuleError) Error() string { return "WebSocket: " + e.Broken }
