package report

import "time"

// WebInfo is one request to the web server, as an Observer sees it.
type WebInfo struct {
	ID        string // in x-request-id, both ways
	Request   string // the HTTP method and the path, without the query; text of the client, so escape it
	Peer      string
	Client    string // the most specific name in its verified certificate; "" if there is none
	Listener  string // the name of its listener; "" if it has none
	WebSocket bool   // the web server accepted an upgrade
	Begin     time.Time

	Duration          time.Duration
	Status            int    // the HTTP status of the answer; 0: there was none
	Origin            string // who answered: OriginUpstream, OriginCulvert or OriginClient
	Reason            Reason // why culvert refused the request or ended it; "": it didn't
	Limit             string // the key of the limit that was reached; "" if none was
	Cause             string // the cause behind it
	BytesIn, BytesOut int64  // of bodies, or of a WebSocket
}
