package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"
)

// checks find mistakes that involve several keys; each value is valid by
// itself by now. A check refuses contradictions, and warns of dangers. Their texts
// name keys and no values, because a value may be a secret.
var checks = []func(*Loaded){
	checkBackends,
	checkRoutes,
	checkBackendTLS,
	checkBackendIsNotOurselves,
	checkFallback,
	checkKeepalive,
	checkBalance,
	checkHealthCheck,
	checkWildcardOrigin,
	checkOriginsOfStrangers,
	checkOriginsOfCookies,
	checkTriedOut,
	checkTrust,
	checkSocketTrust,
	checkTLS,
	checkPlaintext,
	checkNamesOfGets,
	checkReachableByCA,
	checkDevelopmentCertificate,
	checkDetailedErrors,
	checkLimits,
	checkUseLimits,
	checkLogFields,
	checkLogSamples,
	checkDrainSpread,
	checkHealthListen,
	checkDependsOn,
	checkAdminListen,
	checkAdminAccess,
	checkListeners,
	checkHTTPListen,
	checkACME,
	checkOTLP,
	checkAuth,
}

// check returns an error with a line for each mistake.
func (l *Loaded) check() error {
	for _, c := range checks {
		c(l)
	}
	errs := l.mistakes
	l.mistakes = nil
	return errors.Join(errs...)
}

// CheckTogether returns an error with a line for each value that culvert would refuse at
// its start: out of its range, or in contradiction to another value. The values are those
// of keys, by name, in the form of the keys' variables; each is valid by itself
// ([Key.Check]). places has what an error calls their sources. The other keys have their
// defaults. CheckTogether reads no file and no variable.
func CheckTogether(values, places map[string]string) error {
	l := &Loaded{Config: Defaults(), origins: map[string]origin{}, derived: map[string]string{}}
	for name, value := range values {
		k := fileKeys.key(name)
		if err := k.set(reflect.ValueOf(&l.Config).Elem(), value); err != nil {
			return fmt.Errorf("%s: %w", places[name], err)
		}
		l.origins[name] = origin{place: places[name]}
	}
	l.inherit()
	return l.check()
}

// refuse has check return an error about the value of a key.
func (l *Loaded) refuse(key, format string, args ...any) {
	l.mistakes = append(l.mistakes, l.Errorf(key, format, args...))
}

// refuseOver refuses a key whose value is more than most. how is "is too long" or "is too large".
func refuseOver[T int | Size | time.Duration](l *Loaded, key string, value, most T, how string) {
	if value > most {
		l.refuse(key, "%s: write at most %v", how, most)
	}
}

// A setKey is a key, and whether it has another value than one that isn't set.
type setKey struct {
	key string
	set bool
}

func (l *Loaded) refuseSet(keys []setKey, format string, args ...any) {
	for _, k := range keys {
		if k.set {
			l.refuse(k.key, format, args...)
		}
	}
}

func (l *Loaded) warn(key, text string) {
	l.Warnings = append(l.Warnings, l.Place(key)+": "+text)
}

func checkDetailedErrors(l *Loaded) {
	if l.Errors == "detailed" && slices.ContainsFunc(l.Listen, Listener.beyondThisHost) {
		l.warn("errors", "detailed shows internal addresses to every client: use concise if clients are on other hosts")
	}
}

func checkDrainSpread(l *Loaded) {
	if l.IsSet("drain_spread") && l.DrainSpread > l.DrainTimeout {
		l.refuse("drain_spread", "is more than drain_timeout, of which it is a part: lower it, or raise drain_timeout (--drain-timeout)")
	}
}

// Spread returns the drain_spread in effect.
func (l *Loaded) Spread() time.Duration {
	if l.IsSet("drain_spread") {
		return l.DrainSpread
	}
	return min(l.DrainSpread, l.DrainTimeout/2)
}

func checkHealthListen(l *Loaded) {
	for _, ln := range l.Listen {
		if collide(l.Health.Listen, ln.Address) {
			l.refuse("health.listen", "is the port of listen: use another port, or turn health checks off (--health-listen off)")
			return
		}
	}
}
