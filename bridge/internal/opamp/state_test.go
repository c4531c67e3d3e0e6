package opamp

import "testing"

// TestStates: each event leads from each state to another one, or is without effect there.
func TestStates(t *testing.T) {
	kick := func(message bool, replies int, over bool) func(*state) {
		return func(s *state) { s.begin(message, replies, over) }
	}
	for name, c := range map[string]struct {
		from  state
		event func(*state)
		want  state
	}{
		"a message before the call is open":      {state{unopened, unopened, waits}, kick(true, 0, false), state{unopened, unopened, waits}},
		"the end before the call is open":        {state{unopened, unopened, waits}, kick(false, 0, true), state{unopened, unopened, waits}},
		"a first message":                        {state{parked, parked, waits}, kick(true, 0, false), state{copying, copying, waits}},
		"a message, and a reply is there":        {state{parked, parked, waits}, kick(true, 1, false), state{copying, parked, waits}},
		"a message, and a reply that yields":     {state{parked, parked, seeks}, kick(true, 1, false), state{copying, copying, seeks}},
		"nothing to do without a poll":           {state{parked, parked, away}, kick(false, 0, false), state{parked, parked, away}},
		"nothing to do while a reply is fetched": {state{parked, parked, fetches}, kick(false, 0, false), state{parked, parked, fetches}},
		"loops that run":                         {state{copying, copying, waits}, kick(true, 0, true), state{copying, copying, waits}},
		"the last message was taken":             {state{halfClosed, parked, away}, kick(false, 2, false), state{halfClosed, copying, away}},
		"a message came back":                    {state{refusing, parked, away}, kick(true, 1, false), state{refusing, copying, away}},
		"the call's context ends":                {state{parked, parked, away}, kick(false, 1, true), state{parked, copying, away}},
		"the requests park":                      {state{copying, copying, waits}, func(s *state) { s.requests.park() }, state{parked, copying, waits}},
		"the replies park":                       {state{copying, copying, away}, func(s *state) { s.replies.park() }, state{copying, parked, away}},
		"the half-close is no pause":             {state{halfClosed, copying, waits}, func(s *state) { s.requests.park() }, state{halfClosed, copying, waits}},
		"a poll waits":                           {state{parked, parked, away}, func(s *state) { s.await(false) }, state{parked, parked, waits}},
		"a poll seeks":                           {state{parked, parked, away}, func(s *state) { s.await(true) }, state{parked, parked, seeks}},
		"a reply that yields comes":              {state{copying, copying, waits}, func(s *state) { s.await(true) }, state{copying, copying, seeks}},
		"a reply that doesn't comes":             {state{copying, copying, seeks}, func(s *state) { s.await(false) }, state{copying, copying, waits}},
	} {
		got := c.from
		c.event(&got)
		if got != c.want {
			t.Errorf("%s: %v becomes %v, want %v", name, c.from, got, c.want)
		}
	}
	for v, want := range map[visit]bool{away: false, waits: true, seeks: true, fetches: false} {
		if s := (state{agent: v}); s.asks() != want {
			t.Errorf("a poll in the state %v asks: %v, want %v", v, s.asks(), want)
		}
	}
	for l, want := range map[loop]bool{unopened: false, parked: false, copying: false, halfClosed: true, refusing: true} {
		if s := (state{requests: l}); s.ending() != want {
			t.Errorf("a call whose requests are in the state %v is about to end: %v, want %v", l, s.ending(), want)
		}
	}
}
