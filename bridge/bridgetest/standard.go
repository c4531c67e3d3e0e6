package bridgetest

// standardLacks are the scenarios that net/http's HTTP/2 server can't meet, with
// the reasons. docs/guides/http2-server.md tells operators.
var standardLacks = map[string]string{
	"a connection that is old ends with a goodbye": "net/http knows no age of a connection: its GOAWAY comes with the answer to the next call",
}

// withStandardHTTP2 returns the transports, and each that is on HTTP/2 once more
// with net/http's server of HTTP/2.
func withStandardHTTP2(table []transport) []transport {
	rows := table[:len(table):len(table)]
	for _, tr := range table {
		if tr.http2 {
			tr.name += " standard"
			tr.standard = true
			rows = append(rows, tr)
		}
	}
	return rows
}
