package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"
)

// The bounds of sessions.
const (
	sessionTime = 12 * time.Hour
	maxSessions = 64 // a further one ends the oldest
)

// sessions are the browsers that have shown the token. They are known by the hashes of random
// ids, so that a dump of the memory has no id. The zero value is ready.
type sessions struct {
	began map[[sha256.Size]byte]time.Time
}

func (s *sessions) begin(now time.Time) (id string) {
	if s.began == nil {
		s.began = make(map[[sha256.Size]byte]time.Time)
	}
	var oldest [sha256.Size]byte
	var first time.Time
	for key, began := range s.began {
		switch {
		case now.Sub(began) >= sessionTime:
			delete(s.began, key)
		case first.IsZero() || began.Before(first):
			oldest, first = key, began
		}
	}
	if len(s.began) >= maxSessions {
		delete(s.began, oldest)
	}
	random := make([]byte, 32)
	_, _ = rand.Read(random) // it never fails
	id = base64.RawURLEncoding.EncodeToString(random)
	s.began[sha256.Sum256([]byte(id))] = now
	return id
}

func (s *sessions) has(id string, now time.Time) bool {
	began, open := s.began[sha256.Sum256([]byte(id))]
	return open && now.Sub(began) < sessionTime
}

func (s *sessions) end(id string) bool {
	key := sha256.Sum256([]byte(id))
	_, open := s.began[key]
	delete(s.began, key)
	return open
}

func (s *sessions) endAll() int {
	n := len(s.began)
	s.began = nil
	return n
}
