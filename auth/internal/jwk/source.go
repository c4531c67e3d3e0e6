package jwk

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults and bounds of time.
const (
	defaultMinAge = 5 * time.Minute
	defaultMaxAge = 24 * time.Hour
	unstatedAge   = 15 * time.Minute // of a document whose server doesn't say how long it is fresh
	defaultWait   = 5 * time.Second
	fetchTime     = 10 * time.Second
	askAgain      = time.Minute // between two fetches that unknown keys cause
	retryFirst    = time.Second // after a fetch that failed; doubles up to retryLast
	retryLast     = time.Minute
)

var (
	// ErrUnavailable means that nobody can tell now whether the issuer has such a key.
	ErrUnavailable = errors.New("the issuer's keys aren't available")

	errClosed = errors.New("the source of keys was closed")
	errNotYet = errors.New("they were not fetched yet")
	errNone   = errors.New("the key set has no key that verifies signatures")
)

// Options tell where an issuer's keys are. One of Issuer, URL and File is set.
type Options struct {
	Issuer string // its keys are where its metadata says (OpenID Connect Discovery)
	URL    string // of a key set
	File   string // a key set; Reload reads it again

	Access Access // for the host of Issuer or URL
	// KeysAccess is for another host that the metadata names as the keys' place. Access isn't
	// used there: metadata must not choose who gets the token.
	KeysAccess Access

	MinAge time.Duration // between two fetches that are due; 5 min if 0
	MaxAge time.Duration // of a set that the issuer still publishes; 24 h if 0
	Wait   time.Duration // the most that Find waits; 5 s if 0

	// Offline fetches nothing: Open only checks the other options, and reads a file. Find then
	// knows no key of a URL.
	Offline bool

	// Notify is called after each fetch, one call at a time. It must call neither Close nor
	// Reload. Nil for nobody.
	Notify func(State)
}

// A State tells how a source is.
type State struct {
	Keys     int       // in use; also the last good ones of an earlier fetch
	Fetched  time.Time // when the set in use was fetched last; zero: not yet
	Next     time.Time // when it is fetched again; zero for a file
	Failures int       // fetches that failed since
	Err      error     // why the last fetch failed, or nil
	Skipped  map[string]error
}

// A Source has an issuer's keys. Its methods may be called concurrently.
type Source struct {
	options    Options
	start      *url.URL // of the metadata or of the keys; nil for a file
	fetcher    fetcher
	current    atomic.Pointer[Set]
	stop       context.CancelCauseFunc
	running    sync.WaitGroup
	wake       chan struct{} // of size 1: a round is pending
	refreshing sync.Mutex    // held during a fetch

	mu     sync.Mutex
	state  State
	round  *round    // pending or in progress, or nil
	asked  time.Time // when an unknown key caused a round
	closed bool
}

// A round is one fetch that callers can wait for.
type round struct{ done chan struct{} }

// over is a round that has ended.
var over = func() *round {
	r := &round{done: make(chan struct{})}
	close(r.done)
	return r
}()

// Open returns a source whose keys are being fetched. It doesn't wait for them: until they are
// there, Find does. An error is one of the options.
func Open(options Options) (*Source, error) { return open(options, nil) }

func open(options Options, dial dialFunc) (*Source, error) {
	s := &Source{options: options, fetcher: fetcher{dial: dial}, wake: make(chan struct{}, 1)}
	if err := s.configure(); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancelCause(context.Background()) // until Close
	s.stop = stop
	if s.start == nil {
		_ = s.Reload() // the state has the error
		return s, nil
	}
	if options.Offline {
		s.closed = true
		return s, nil
	}
	s.round = &round{done: make(chan struct{})} // run begins with it
	s.running.Go(func() { s.run(ctx) })
	return s, nil
}

func (s *Source) configure() error {
	o := &s.options
	places := slices.DeleteFunc([]string{o.Issuer, o.URL, o.File}, func(place string) bool { return place == "" })
	if len(places) != 1 {
		return errors.New("keys come from an issuer's discovery, a URL or a file: name one of them")
	}
	var err error
	if o.Issuer != "" {
		s.start, err = discoveryURL(o.Issuer)
	} else if o.URL != "" {
		s.start, err = parseURL(o.URL)
	}
	if err != nil {
		return err
	}
	for value, standard := range map[*time.Duration]time.Duration{&o.MinAge: defaultMinAge, &o.MaxAge: defaultMaxAge, &o.Wait: defaultWait} {
		if *value <= 0 {
			*value = standard
		}
	}
	if o.MinAge > o.MaxAge {
		return fmt.Errorf("the least age of keys, %v, is over the most, %v", o.MinAge, o.MaxAge)
	}
	return nil
}

// Close ends fetches and waits for the goroutine. Find then answers from the last keys. It may
// be called again.
func (s *Source) Close() {
	s.stop(errClosed)
	s.running.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.end()
}

// Await waits until the fetch that is due or in progress has ended, or until ctx ends.
func (s *Source) Await(ctx context.Context) {
	s.mu.Lock()
	due := s.round
	s.mu.Unlock()
	if due == nil {
		return
	}
	select {
	case <-due.done:
	case <-ctx.Done():
	}
}

// State returns how the source is now.
func (s *Source) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// run fetches until ctx ends: before the set is stale, and when a caller demands it.
func (s *Source) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.wake:
			if !s.pending() { // the timer's round was the one demanded
				continue
			}
		}
		timer.Reset(s.refresh(ctx))
	}
}

func (s *Source) pending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.round != nil
}

// Reload reads the file again. The last good keys stay in use if there is an error. For a URL
// it does nothing.
func (s *Source) Reload() error {
	if s.options.File == "" {
		return nil
	}
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	data, err := readFile(s.options.File, MaxSetBytes)
	if err == nil {
		err = s.install(data)
	}
	s.note(0, err)
	return err
}

// refresh makes a round, and returns when the next one is due.
func (s *Source) refresh(ctx context.Context) time.Duration {
	s.mu.Lock()
	if s.round == nil {
		s.round = &round{done: make(chan struct{})}
	}
	s.mu.Unlock()
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	fresh, err := s.fetch(ctx)
	if err != nil && ctx.Err() != nil {
		return 0 // Close ends the round
	}
	next := s.due(fresh, err)
	s.note(next, err)
	return next
}

// fetch fetches the keys, and before them the metadata, since it may name another place.
func (s *Source) fetch(ctx context.Context) (fresh time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTime, errSlow)
	defer cancel()
	place, access := s.start, s.options.Access
	if s.options.Issuer != "" {
		data, _, err := s.fetcher.document(ctx, place, access, maxDiscoveryBytes)
		if err != nil {
			return 0, err
		}
		keys, err := parseDiscovery(data, s.options.Issuer)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", place.Host, err)
		}
		if keys.Host != place.Host || keys.Scheme != place.Scheme {
			access = s.options.KeysAccess
		}
		place = keys
	}
	data, fresh, err := s.fetcher.document(ctx, place, access, MaxSetBytes)
	if err != nil {
		return 0, err
	}
	if err := s.install(data); err != nil {
		return 0, fmt.Errorf("%s: %w", place.Host, err)
	}
	return fresh, nil
}

// install puts a set in use. A set without a key is put in use, too: it is how an issuer
// withdraws all of them. It is also an error, so that the next fetch is soon.
func (s *Source) install(data []byte) error {
	set, err := ParseSet(data)
	if err != nil {
		return err
	}
	set.follow(s.current.Load())
	s.current.Store(set)
	if set.Len() == 0 {
		return errNone
	}
	return nil
}

// due returns when to fetch after a fetch: at nine tenths of the set's age, so that it never
// gets stale, or after a wait that grows while fetches fail. Many culverts don't fetch at once.
func (s *Source) due(fresh time.Duration, err error) time.Duration {
	if err != nil {
		failures := min(s.State().Failures, 10)
		wait := min(retryFirst<<failures, retryLast)
		return wait/2 + rand.N(wait/2) //nolint:gosec // no secret
	}
	if fresh == 0 {
		fresh = unstatedAge
	}
	fresh = min(max(fresh, s.options.MinAge), s.options.MaxAge)
	return fresh - fresh/10 - rand.N(fresh/20) //nolint:gosec // no secret
}

// note records a fetch, and ends the round that callers wait for.
func (s *Source) note(next time.Duration, err error) {
	set := s.current.Load()
	s.mu.Lock()
	now := time.Now()
	s.state.Keys, s.state.Skipped, s.state.Err, s.state.Next = set.Len(), set.Skipped(), err, time.Time{}
	if next > 0 {
		s.state.Next = now.Add(next)
	}
	if err != nil {
		s.state.Failures++
	} else {
		s.state.Failures, s.state.Fetched = 0, now
	}
	state := s.state
	s.end()
	s.mu.Unlock()
	if s.options.Notify != nil {
		s.options.Notify(state)
	}
}

// end lets those go on that wait for a round. The caller holds mu.
func (s *Source) end() {
	if s.round != nil {
		close(s.round.done)
		s.round = nil
	}
}

// Find returns the keys that may have signed a token whose header has this kid, "" for none,
// and this alg. It returns at once if the set has one. If not, it may cause a fetch, at most one
// a minute for all callers, and waits for it, at most Options.Wait and as long as ctx. An error
// that is ErrUnavailable says that nobody can judge the token now; any other one that the
// issuer has no such key. If a kid is reused for a new key, or tokens have none, the new key is
// found at the next refresh: a signature that is wrong causes no fetch.
func (s *Source) Find(ctx context.Context, id, algorithm string) ([]*Key, error) {
	set := s.current.Load()
	keys, err := set.find(id, algorithm)
	if !errors.Is(err, ErrUnknown) {
		return keys, err
	}
	if round := s.demand(time.Now(), set); round != nil {
		if err := s.await(ctx, round); err != nil {
			return nil, err
		}
		if keys, err = s.current.Load().find(id, algorithm); !errors.Is(err, ErrUnknown) {
			return keys, err
		}
	}
	return nil, s.missing()
}

// demand returns the round that is pending or in progress, or begins one if the last one that
// an unknown key caused is a minute ago. The caller has looked into a set: if another one came
// since, that was the round.
func (s *Source) demand(now time.Time, seen *Set) *round {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.round != nil:
		return s.round
	case s.current.Load() != seen:
		return over
	case s.closed || s.start == nil || !s.asked.IsZero() && now.Sub(s.asked) < askAgain:
		return nil
	}
	s.asked = now
	s.round = &round{done: make(chan struct{})}
	select {
	case s.wake <- struct{}{}:
	default: // run hasn't taken the last one yet, and so will look
	}
	return s.round
}

// await waits for the round's end.
func (s *Source) await(ctx context.Context, r *round) error {
	timer := time.NewTimer(s.options.Wait)
	defer timer.Stop()
	select {
	case <-r.done:
		return nil
	case <-timer.C:
		return fmt.Errorf("%w: a fetch takes longer than %v", ErrUnavailable, s.options.Wait)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}
}

// missing returns why no key was found. During an outage, the key may be a new one.
func (s *Source) missing() error {
	switch state := s.State(); {
	case errors.Is(state.Err, errNone):
		return ErrUnknown
	case state.Err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, state.Err)
	case state.Fetched.IsZero():
		return fmt.Errorf("%w: %w", ErrUnavailable, errNotYet)
	}
	return ErrUnknown
}
