package websocket

import coder "github.com/coder/websocket"

// A StatusCode is the code with which a WebSocket was closed. RFC 6455 §7.4.
type StatusCode = coder.StatusCode

// The codes that other packages use, and the one that stands for none.
const (
	StatusNormalClosure   = coder.StatusNormalClosure
	StatusGoingAway       = coder.StatusGoingAway
	StatusProtocolError   = coder.StatusProtocolError
	StatusUnsupportedData = coder.StatusUnsupportedData
	StatusNoStatusRcvd    = coder.StatusNoStatusRcvd // nothing is sent
	StatusPolicyViolation = coder.StatusPolicyViolation
	StatusMessageTooBig   = coder.StatusMessageTooBig
	StatusInternalError   = coder.StatusInternalError
	StatusBadPayload      = coder.StatusInvalidFramePayloadData // text that isn't UTF-8
)

// A CloseError is a close frame of the peer, as the error of a read.
type CloseError = coder.CloseError

// CloseStatus returns the code of the close frame that made a read return err, or -1
// if there was none.
func CloseStatus(err error) StatusCode { return coder.CloseStatus(err) }

// A RuleError reports a rule that the peer broke: of RFC 6455, of the bound for
// frames that carry nothing, or of a frame's length. The close frame to the peer
// has its code.
type RuleError struct {
	Code   StatusCode // StatusPolicyViolation for frames that carry nothing, StatusMessageTooBig for a length
	Broken string     // the rule
}

func (e RuleError) Error() string { return "WebSocket: " + e.Broken }
