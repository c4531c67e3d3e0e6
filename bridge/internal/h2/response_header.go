package h2

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"
)

// A fieldList is a header block before it is encoded.
type fieldList struct{ fields []hpack.HeaderField }

var fieldLists = sync.Pool{New: func() any { return new(fieldList) }}

func newFields() *fieldList { return fieldLists.Get().(*fieldList) }

func (l *fieldList) free() {
	clear(l.fields)
	l.fields = l.fields[:0]
	fieldLists.Put(l)
}

// add adds a field. Like net/http, it leaves out fields that HTTP/2 can't carry.
func (l *fieldList) add(name string, values []string) {
	wire, known := wireNames[name]
	if !known {
		if wire = strings.ToLower(name); !validName(wire) {
			return
		}
	}
	for _, v := range values {
		if httpguts.ValidHeaderFieldValue(v) {
			l.fields = append(l.fields, hpack.HeaderField{Name: wire, Value: v})
		}
	}
}

// addHeader adds the status and the fields in the order of their names. It leaves out
// the fields about the connection and the length.
func (l *fieldList) addHeader(status int, header http.Header) {
	l.fields = append(l.fields, hpack.HeaderField{Name: ":status", Value: statusText(status)})
	for name, values := range header {
		if !forConnections[name] && name != "Content-Length" {
			l.add(name, values)
		}
	}
	slices.SortStableFunc(l.fields[1:], func(a, b hpack.HeaderField) int { return strings.Compare(a.Name, b.Name) })
}

func statusText(status int) string {
	if status == http.StatusOK {
		return "200"
	}
	return strconv.Itoa(status)
}

// takeHeader takes the header as it is now.
func (w *response) takeHeader(status int) {
	w.fields.addHeader(status, w.header)
	if n, err := strconv.ParseUint(w.header.Get("Content-Length"), 10, 63); err == nil {
		w.length = int64(n)
	}
	for _, list := range w.header["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			w.trailer = append(w.trailer, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	if w.header.Get("Connection") == "close" {
		w.st.c.shutdown(EndOrderly, false) // as net/http does
	}
}

// completeHeader adds the fields that net/http sets itself, unless the handler set
// them, or set them to nil. The body begins with head and data; whole reports that this
// is all.
func (w *response) completeHeader(head, data []byte, whole bool) {
	l := w.fields
	if _, ok := w.header["Content-Type"]; !ok && w.header.Get("Content-Encoding") == "" && len(head)+len(data) > 0 {
		if len(head) == 0 {
			head = data
		}
		l.add("Content-Type", []string{http.DetectContentType(head)})
	}
	_, said := w.header["Content-Length"]
	switch isHead := w.st.req.Method == http.MethodHead; {
	case w.length >= 0:
		l.add("Content-Length", []string{strconv.FormatInt(w.length, 10)})
	case !said && whole && bodyAllowed(w.status) && (w.written > 0 || !isHead):
		l.add("Content-Length", []string{strconv.FormatInt(w.written, 10)})
	}
	if _, ok := w.header["Date"]; !ok {
		l.add("Date", []string{time.Now().UTC().Format(http.TimeFormat)})
	}
}

// addTrailers adds the trailers: the fields that the header announced, and
// those with http.TrailerPrefix.
func (w *response) addTrailers(l *fieldList) {
	for _, name := range w.trailer {
		if httpguts.ValidTrailerHeader(name) {
			l.add(name, w.header[name])
		}
	}
	for key, values := range w.header {
		if name, ok := strings.CutPrefix(key, http.TrailerPrefix); ok && httpguts.ValidTrailerHeader(http.CanonicalHeaderKey(name)) {
			l.add(name, values)
		}
	}
	slices.SortStableFunc(l.fields, func(a, b hpack.HeaderField) int { return strings.Compare(a.Name, b.Name) })
}
