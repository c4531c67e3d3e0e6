package admin

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (c *Control) serveData(mux *http.ServeMux) {
	mux.HandleFunc("GET /calls", c.showCalls)
	mux.HandleFunc("POST /calls/{id}/stop", c.stopCall)
	mux.HandleFunc("GET /failures", c.showFailures)
	mux.HandleFunc("GET /memory", c.showMemory)
	for pattern, page := range map[string]func() any{
		"GET /connections":  func() any { return c.Data.Connections() },
		"GET /backends":     func() any { return c.Data.Backends() },
		"GET /routes":       func() any { return c.Data.Routes() },
		"GET /limits":       func() any { return c.Data.Limits() },
		"GET /certificates": func() any { return c.Data.Certificates() },
		"GET /auth":         func() any { return c.Data.Auth() },
		"GET /status":       func() any { return c.status() },
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			c.answer(w, parse(r.URL.RawQuery, nil), page)
		})
	}
}

// answer answers with what page returns, or with an error of the query. One page is made at a time: with many open calls that
// takes a processor for tens of milliseconds, and calls must get theirs. Nobody waits for a
// caller who doesn't read.
func (c *Control) answer(w http.ResponseWriter, err error, page func() any) {
	if err != nil {
		answer(w, http.StatusBadRequest, "culvert: "+strings.Map(visible, err.Error())+"\n")
		return
	}
	c.making.Lock()
	text := func() []byte {
		defer c.making.Unlock() // also behind a panic
		return encode(page())
	}()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(text) // the caller may be gone
}

const (
	defaultCalls = 100
	maxCalls     = 1000
)

func (c *Control) showCalls(w http.ResponseWriter, r *http.Request) {
	q, err := ParseCallQuery(r.URL.RawQuery)
	c.answer(w, err, func() any { return c.Data.Calls(q) })
}

// ParseCallQuery reads the query of /calls. An error names the parameter and the remedy.
func ParseCallQuery(query string) (CallQuery, error) {
	q := CallQuery{Order: Orders[0], Limit: defaultCalls}
	limit := ""
	err := parse(query, map[string]*string{
		"order": &q.Order, "limit": &limit, "id": &q.ID, "method": &q.Method, "route": &q.Route, "backend": &q.Backend, "transport": &q.Transport,
		"listener": &q.Listener, "peer": &q.Peer, "identity": &q.Identity, "waits_for": &q.WaitsFor,
	})
	if err != nil {
		return q, err
	}
	if limit != "" {
		if q.Limit, err = strconv.Atoi(limit); err != nil || q.Limit < 1 || q.Limit > maxCalls {
			return q, fmt.Errorf("limit is %.40q: write a number from 1 to %d", limit, maxCalls)
		}
	}
	if !slices.Contains(Orders, q.Order) {
		return q, fmt.Errorf("order is %.40q: write %s", q.Order, oneOf(Orders))
	}
	if q.WaitsFor != WaitsNot && q.WaitsFor != WaitsForAny && !slices.Contains(WaitsFor, q.WaitsFor) {
		return q, fmt.Errorf("waits_for is %.40q: write %s", q.WaitsFor, oneOf(append(slices.Clone(WaitsFor), WaitsForAny)))
	}
	return q, nil
}

func (c *Control) stopCall(w http.ResponseWriter, r *http.Request) {
	stop := Stop{ID: r.PathValue("id"), By: asker(r)}
	began := ""
	err := parse(r.URL.RawQuery, map[string]*string{"began": &began})
	if err == nil && began != "" {
		if stop.Began, err = time.Parse(time.RFC3339Nano, began); err != nil {
			err = fmt.Errorf("began is %.40q: write the call's began from /calls", began)
		}
	}
	var stopped Stopped
	if err == nil {
		stopped = c.Data.StopCall(stop)
	}
	switch {
	case err != nil || stopped.Stopped > 0:
		c.answer(w, err, func() any { return stopped })
	case stopped.Found > 1:
		answer(w, http.StatusConflict, fmt.Sprintf("culvert: %d open calls have this id: select one by its began from /calls: ?began=TIME\n", stopped.Found))
	default:
		answer(w, http.StatusNotFound, "culvert: no open call has this id: it may have ended\n")
	}
}

// asker returns who sends a request, for the log.
func asker(r *http.Request) string {
	if r.RemoteAddr == "" || r.RemoteAddr == "@" {
		return "unix socket"
	}
	return r.RemoteAddr
}

func (c *Control) showFailures(w http.ResponseWriter, r *http.Request) {
	var q FailureQuery
	err := parse(r.URL.RawQuery, map[string]*string{"origin": &q.Origin, "reason": &q.Reason})
	c.answer(w, err, func() any { return c.Data.Failures(q) })
}

const (
	defaultHolders = 10
	maxHolders     = 100
)

func (c *Control) showMemory(w http.ResponseWriter, r *http.Request) {
	limit, holders := "", defaultHolders
	err := parse(r.URL.RawQuery, map[string]*string{"limit": &limit})
	if err == nil && limit != "" {
		if holders, err = strconv.Atoi(limit); err != nil || holders < 0 || holders > maxHolders {
			err = fmt.Errorf("limit is %.40q: write a number from 0 to %d", limit, maxHolders)
		}
	}
	c.answer(w, err, func() any { return c.Data.Memory(holders) })
}

func (c *Control) status() Status {
	now := c.Configuration()
	s := Status{
		At: time.Now().UTC(), Version: c.Version, Started: c.Started.UTC(), LogLevel: levelName(c.Level.Level()), Drain: c.Drain.State(),
		Configuration: ConfigurationStatus{File: Text(now.File), Version: now.Version, Since: now.Since.UTC(), Rejected: []Text{}, Difference: texts(now.Difference), Restart: texts(now.Restart)},
		Problems:      texts(c.Problems()), Token: c.Access.wantsToken(),
	}
	if now.Rejected != nil {
		s.Configuration.Rejected, s.Configuration.RejectedAt = texts(strings.Split(now.Rejected.Error(), "\n")), now.RejectedAt.UTC()
	}
	return s
}

// texts returns the first texts of many.
func texts(all []string) []Text {
	some := make([]Text, 0, min(len(all), maxTexts))
	for _, t := range all[:min(len(all), maxTexts)] {
		some = append(some, Text(t))
	}
	if more := len(all) - maxTexts; more > 0 {
		some = append(some, Text(fmt.Sprintf("and %d more", more)))
	}
	return some
}

const maxTexts = 100

// parse reads a query into the values of its parameters. Those that aren't given or are empty
// stay as they are.
func parse(query string, into map[string]*string) error {
	given, err := url.ParseQuery(query)
	if err != nil {
		return fmt.Errorf("the query can't be read: %w", err)
	}
	for name, values := range given {
		to, known := into[name]
		switch {
		case !known && len(into) == 0:
			return fmt.Errorf("the parameter %.40q is unknown: this page has none", name)
		case !known:
			return fmt.Errorf("the parameter %.40q is unknown: write %s", name, oneOf(slices.Sorted(maps.Keys(into))))
		case len(values) > 1:
			return fmt.Errorf("the parameter %q is given %d times: give it once", name, len(values))
		case values[0] != "":
			*to = values[0]
		}
	}
	return nil
}

// oneOf lists words for a person.
func oneOf(words []string) string {
	if last := len(words) - 1; last > 0 {
		return strings.Join(words[:last], ", ") + " or " + words[last]
	}
	return strings.Join(words, "")
}
