package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"

	"github.com/culvert-grpc/culvert/auth/internal/jwk"
)

// A keySource has the keys of an issuer.
type keySource struct {
	*jwk.Source
	place keyPlace
}

// A keyPlace says where keys are. Two issuers of the same place are one source.
type keyPlace struct {
	issuer, url, file  string
	access, keysAccess jwk.Access
}

func (i *Issuer) place() keyPlace {
	p := keyPlace{url: i.KeysURL, file: i.KeysFile, access: jwk.Access(i.Access), keysAccess: jwk.Access(i.KeysAccess)}
	if p.url == "" && p.file == "" {
		p.issuer = i.Issuer
	}
	return p
}

// openKeys opens the source of an issuer's keys, or takes over the one that before has of the
// same place: in an outage of the issuer that has the last good keys.
func openKeys(from *Issuer, at int, before *Authenticator, log *slog.Logger, offline bool) (*part[*keySource], *Mistake) {
	place := from.place()
	if before != nil {
		for _, i := range before.issuers() {
			if i.keys.value.place == place && i.keys.take() {
				_ = i.keys.value.Reload() // the last good keys stay, and the state has the error
				return i.keys, nil
			}
		}
	}
	if wrong := from.checkFiles(at); wrong != nil {
		return nil, wrong
	}
	source, err := jwk.Open(jwk.Options{
		Issuer: place.issuer, URL: place.url, File: place.file, Access: place.access, KeysAccess: place.keysAccess, Notify: toldOfKeys(log, from.Issuer), Offline: offline,
	})
	if err != nil {
		key := "keys_url"
		if place.issuer != "" {
			key = "issuer"
		}
		return nil, mistake(issuerKey(at, key), "can't be fetched from: %v", err)
	}
	if err := source.State().Err; place.file != "" && err != nil {
		source.Close()
		return nil, mistake(issuerKey(at, "keys_file"), "can't be read: %v", ofFile(place.file, err))
	}
	return newPart(&keySource{source, place}, source.Close), nil
}

// checkFiles reads the files for fetches, which read them again. A fetch would find out what is
// wrong with them only when the configuration is in force.
func (i *Issuer) checkFiles(at int) *Mistake {
	for _, of := range []struct {
		prefix string
		access Access
	}{{"", i.Access}, {"keys_", i.KeysAccess}} {
		if name := of.access.CAFile; name != "" {
			if _, err := jwk.ReadCAs(name); err != nil {
				return mistake(issuerKey(at, of.prefix+"ca"), "can't be read: %v", err)
			}
		}
		if name := of.access.TokenFile; name != "" {
			if _, err := jwk.ReadToken(name); err != nil {
				return mistake(issuerKey(at, of.prefix+"token_file"), "can't be read: %v", err)
			}
		}
	}
	return nil
}

// ofFile returns an error of a file with its name.
func ofFile(name string, err error) error {
	if _, named := errors.AsType[*fs.PathError](err); named {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// toldOfKeys returns what a source of an issuer notifies: it tells the operator of fetches.
func toldOfKeys(log *slog.Logger, issuer string) func(jwk.State) {
	var mu sync.Mutex
	var last jwk.State
	return func(s jwk.State) {
		mu.Lock()
		defer mu.Unlock()
		keysChanged(log, slog.String("issuer", issuer), &last, &s)
		last = s
	}
}

// keysChanged writes what has changed: the first of several failures, and their end.
func keysChanged(log *slog.Logger, issuer slog.Attr, last, now *jwk.State) {
	keys := slog.Int("keys", now.Keys)
	switch {
	case now.Err != nil && (last.Err == nil || last.Err.Error() != now.Err.Error()):
		why, next := slog.Any("error", now.Err), slog.Time("next", now.Next)
		if now.Keys == 0 {
			log.Warn("the keys of an issuer can't be fetched: its tokens can't be verified", issuer, why, next)
			break
		}
		log.Warn("the keys of an issuer can't be fetched: the last good ones stay in use", issuer, keys, why, next)
	case now.Err == nil && (last.Err != nil || last.Fetched.IsZero() || last.Keys != now.Keys):
		log.Info("keys of an issuer fetched", issuer, keys)
	}
	for kid, why := range now.Skipped {
		if _, told := last.Skipped[kid]; !told {
			log.Warn("a key of an issuer isn't used", issuer, slog.String("kid", kid), slog.Any("error", why))
		}
	}
}
