package message

import "github.com/culvert-grpc/culvert/bridge/report"

// fits returns why a message of n bytes is refused, or nil.
func (m *Reader) fits(n int64) error {
	if n > int64(m.Limit.Bytes) {
		return report.Newf(report.ReasonRequestTooLarge, "a request message of %d bytes is over the limit of %d (%s)", n, m.Limit.Bytes, report.Named(m.Limit.Key)).UnlessRaised(m.Limit.Key)
	}
	return nil
}
