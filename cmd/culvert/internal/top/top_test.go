package top

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/culvert-grpc/culvert/admin"
)

var at = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func someCalls(n int) admin.Calls {
	all := admin.Calls{At: at, Open: 412, Matching: 14, Waiting: admin.WaitingCalls{Client: 3, Answer: 1}}
	for i := range n {
		all.Calls = append(all.Calls, admin.Call{
			ID: admin.Text(fmt.Sprintf("%016x", i)), Method: "/shop.v1.inventory.Warehouses/WatchEverything", Peer: "192.0.2.7:50312", Identity: "alice@example.com", Transport: "grpc-websockets", Backend: "orders",
			Began: at.Add(-90 * time.Minute), AgeSeconds: 5400, MessagesIn: 1, MessagesOut: 5210, BytesIn: 12, BytesOut: 3 << 20, LastMessage: at.Add(-7 * time.Second), WaitsFor: admin.WaitsForClient, WaitingSeconds: 6,
		})
	}
	return all
}

func someState(calls int) *State {
	return &State{
		Status: admin.Status{
			At: at, Version: "v1.2.3", Started: at.Add(-50 * time.Hour), LogLevel: "info", Drain: admin.DrainState{State: admin.DrainServing},
			Configuration: admin.ConfigurationStatus{File: "/etc/culvert/proxy.yaml", Version: "3", Since: at, Rejected: []admin.Text{"proxy.yaml:1: bad"}},
			Problems:      []admin.Text{"a", "b", "c", "d", "e"},
		},
		Calls:       someCalls(calls),
		Connections: admin.Connections{Connections: []admin.ConnectionCount{{Listener: "a", Transport: "h2", Open: 2}, {Listener: "b", Transport: "h2", Open: 3}, {Listener: "b", Transport: "websocket", Open: 4, Tunnels: 2}, {Open: 1}}},
		Backends: admin.Backends{Backends: []admin.BackendState{
			{Name: "orders", State: "ready", Calls: 3, Waiting: 1, Addresses: []admin.Address{{Address: "10.0.0.3:9000", Accepts: true, Connections: 1, Places: -1, Picks: 7}, {Address: "10.0.0.4:9000", Failure: "connection refused"}}},
			{Name: "old", State: "ready", Draining: true},
		}},
		Routes: admin.Routes{Routes: []admin.Route{{Route: "orders", Backend: "orders", Calls: 10, Errors: 2, CallsPerSecond: 1.25, ErrorsPerSecond: 0.5, MeanSeconds: 0.012}}},
	}
}

func TestCallsInAFileAreWhole(t *testing.T) {
	all := someCalls(1)
	got := strings.Join(Calls(&all, 0), "\n")
	want := `412 open calls, 14 selected; waiting: 3 for the client, 1 for an answer

  AGE  WAITS FOR  SINCE  LAST     IN          OUT  METHOD                                         PEER             IDENTITY           TRANSPORT        BACKEND  ID
1h30m  client        6s    7s  1/12B  5210/3.0MiB  /shop.v1.inventory.Warehouses/WatchEverything  192.0.2.7:50312  alice@example.com  grpc-websockets  orders   0000000000000000`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := Calls(&admin.Calls{Open: 1, Matching: 1}, 80); !slices.Equal(got, []string{"1 open call"}) {
		t.Errorf("without calls to list: %q", got)
	}
}

func TestPage(t *testing.T) {
	got := strings.Join(Page(someState(1), 80, 0, "waiting"), "\n")
	want := `culvert v1.2.3, up 2d02h, serving, log level info, /etc/culvert/proxy.yaml (3) …
! a newer file was rejected: proxy.yaml:1: bad
! a
! b
! c
! and 2 more problems: GET /status has them
10 connections: 5 h2, 4 websocket, 1 unheard, of these 2 tunnels

BACKEND  STATE     CALLS  WAITING  ADDRESS          PLACES  PICKS  HEALTH
orders   ready         3        1  10.0.0.3:9000  no limit      7  ok
                                   10.0.0.4:9000         0      0  connection r…
old      draining      0        0  -                     -      -  -

ROUTE   BACKEND  CALLS/S  ERRORS/S  MEAN  CALLS  ERRORS
orders  orders       1.2       0.5  12ms     10       2

CALLS by waiting: 412 open calls, 14 selected; waiting: 3 for the client, 1 for…
  AGE  WAITS FOR  SINCE  LAST  METHOD                            PEER
1h30m  client        6s    7s  /shop.v1.inventory.Warehouses/W…  192.0.2.7:50312`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestPagesFit into each terminal.
func TestPagesFit(t *testing.T) {
	s := someState(50)
	s.Calls.Calls[0].Method = "/a/東京東京東京東京東京東京東京東京東京東京東京東京東京東京東京東京東京"
	s.Calls.Calls[1].Identity = "e\u0301e\u0301"
	for width := 1; width <= 220; width++ {
		for _, height := range []int{1, 5, 24, 80} {
			lines := Page(s, width, height, "age")
			if len(lines) > height {
				t.Errorf("%d lines on a screen of %d", len(lines), height)
			}
			for _, line := range lines {
				if n := cells(line); n > width {
					t.Fatalf("%d cells in a width of %d: %q", n, width, line)
				}
			}
		}
	}
}

func TestShortTexts(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", -1: "0s", time.Microsecond: "1ms", 999 * time.Millisecond: "999ms", 1500 * time.Millisecond: "1s", 61 * time.Second: "1m01s", 3*time.Hour + 4*time.Minute: "3h04m", 50 * time.Hour: "2d02h",
	} {
		if got := short(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0B", 1023: "1023B", 1024: "1.0KiB", 200 << 10: "200KiB", 3 << 40: "3.0TiB", 1 << 62: "4.0EiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

// FuzzPage: whatever peers send, a page has only characters that are printed, and fits.
func FuzzPage(f *testing.F) {
	for _, s := range []string{"", "\x1b[2J", "\u009b31m", "\u202e\t\r\n", "\xff", "e\u0301東京🙂"} {
		f.Add(s, 80)
	}
	f.Fuzz(func(t *testing.T, s string, width int) {
		if width < 0 || width > 500 {
			return
		}
		of, text := someState(1), admin.Text(s)
		c := &of.Calls.Calls[0]
		c.ID, c.Method, c.Peer, c.Identity, c.Transport, c.Backend, c.WaitsFor = text, text, text, text, text, text, s
		of.Status.Version, of.Status.Problems, of.Status.Configuration.File = s, []admin.Text{text}, text
		of.Connections.Connections[0].Transport, of.Backends.Backends[0].Name, of.Backends.Backends[0].State = text, text, s
		of.Backends.Backends[0].Addresses[0].Failure, of.Routes.Routes[0].Route = text, text
		for _, line := range append(Page(of, width, 0, "age"), Calls(&of.Calls, width)...) {
			if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) || width > 0 && cells(line) > width {
				t.Errorf("%q in %d cells: %q", s, width, line)
			}
		}
	})
}

// onScreen runs a Screen with keys and answers, and returns what it draws. Keys come in
// intervals of 1.3 s, so that none comes with a page.
func onScreen(t *testing.T, keys string, fetch func(n int, order string) (*State, error)) (drawn string, orders []string, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		pressed := make(chan byte)
		go func() {
			for _, key := range []byte(keys) {
				time.Sleep(1300 * time.Millisecond) // of the test's own clock
				pressed <- key
			}
			close(pressed)
		}()
		s := &Screen{Out: &out, Keys: pressed, Size: func() (int, int) { return 60, 20 }, Fetch: func(_ context.Context, order string, calls int) (*State, error) {
			if calls != 20 {
				t.Errorf("it asks for %d calls, want as many as it has lines", calls)
			}
			orders = append(orders, order)
			return fetch(len(orders), order)
		}}
		err = s.Run(t.Context(), "age")
		for range pressed { // the keys after the end
		}
		drawn = out.String()
	})
	return drawn, orders, err
}

func TestScreenHeedsKeys(t *testing.T) {
	state := func(int, string) (*State, error) { return someState(3), nil }
	for keys, want := range map[string][]string{
		"q":    {"age", "age"},
		"\x03": {"age", "age"},
		"xoq":  {"age", "age", "age", "messages", "messages"},
		"ooq":  {"age", "age", "messages", "messages", "bytes", "bytes"},
		"":     {"age"},
	} {
		drawn, orders, err := onScreen(t, keys, state)
		if err != nil || !slices.Equal(orders, want) {
			t.Errorf("%q: asked for %v, %v; want %v", keys, orders, err, want)
		}
		if !strings.HasPrefix(drawn, enter) || !strings.HasSuffix(drawn, leave) || !strings.Contains(drawn, "CALLS by age") || !strings.Contains(drawn, "\x1b[20;1H\x1b[2Kq: end") {
			t.Errorf("%q: drew %q", keys, drawn)
		}
	}
}

// TestKeysEndAQuestion: culvert may not answer, and in raw mode Ctrl-C is no signal.
func TestKeysEndAQuestion(t *testing.T) {
	for answers := range 2 {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			pressed := make(chan byte)
			asked := 0
			s := &Screen{Out: &out, Keys: pressed, Size: func() (int, int) { return 60, 20 }, Fetch: func(ctx context.Context, _ string, _ int) (*State, error) {
				if asked++; asked <= answers {
					return someState(1), nil
				}
				<-ctx.Done()
				return nil, ctx.Err()
			}}
			go func() {
				time.Sleep(1300 * time.Millisecond) // of the test's own clock
				pressed <- 'o'
				pressed <- ctrlC
			}()
			began := time.Now()
			if err := s.Run(t.Context(), "age"); err != nil || time.Since(began) > 2*time.Second || asked != answers+1 {
				t.Errorf("after %d answers and %v: %v, %d questions", answers, time.Since(began), err, asked)
			}
		})
	}
}

// TestWideCharacters take two cells, so a peer's text can't be longer than its column.
func TestWideCharacters(t *testing.T) {
	for text, want := range map[string]int{"aé": 2, "東": 2, "⚡": 2, "⌚⏩⏳✅❌⭐": 12, "\ufe10": 2, "🙂": 2, "→✓": 2, "e\u0301": 1} {
		if got := cells(text); got != want {
			t.Errorf("%q takes %d cells, want %d", text, got, want)
		}
	}
}

// TestScreenOutlivesFailures: it shows them and asks again; the first one ends it.
func TestScreenOutlivesFailures(t *testing.T) {
	gone := errors.New("culvert is\x1b[2J gone")
	drawn, orders, err := onScreen(t, "xq", func(n int, _ string) (*State, error) {
		if n == 2 {
			return nil, gone
		}
		return someState(1), nil
	})
	if err != nil || len(orders) != 3 || !strings.Contains(drawn, "! culvert is?[2J gone   (q: end)") || !strings.HasSuffix(drawn, "q: end   o: next order"+leave) {
		t.Errorf("%v after %d questions: %q", err, len(orders), drawn)
	}
	if drawn, _, err := onScreen(t, "", func(int, string) (*State, error) { return nil, gone }); !errors.Is(err, gone) || drawn != "" {
		t.Errorf("without a first page: %v, %q", err, drawn)
	}
}
