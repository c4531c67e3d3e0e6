package routing

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Split divides calls among backends by weight.
type Split struct {
	targets []report.Target
	seeds   []uint64 // of each target, for PickFor
	total   uint64   // of the weights
}

// maxWeight keeps the sum far below 2^64.
const maxWeight = 1_000_000

// NewSplit returns the split among the targets, each with a backend of its own.
func NewSplit(targets []report.Target) (*Split, error) {
	s := &Split{targets: targets, seeds: make([]uint64, len(targets))}
	for i, t := range targets {
		for _, before := range targets[:i] {
			if before.Backend == t.Backend {
				return nil, fmt.Errorf("has the backend %q twice: add their weights", t.Backend)
			}
		}
		if t.Weight < 0 || t.Weight > maxWeight {
			return nil, fmt.Errorf("has the weight %d: write 0 to %d", t.Weight, maxWeight)
		}
		s.seeds[i] = hash(fnvOffset, t.Backend)
		s.total += uint64(t.Weight)
	}
	if s.total == 0 {
		return nil, errors.New("has weights that sum to 0: give one backend a weight of 1 or more")
	}
	return s, nil
}

// Targets returns the targets. The caller must not change them.
func (s *Split) Targets() []report.Target { return s.targets }

// Pick returns the backend for a number that is uniform over all 64-bit values. serves
// reports whether a backend can take calls. Backends that can't have no share, unless
// none can. Then Pick returns one by weight, whose failure tells the client why.
func (s *Split) Pick(random uint64, serves func(backend string) bool) string {
	at, rest := bits.Mul64(random, s.total)
	picked := s.at(at, nil)
	if serves(picked) {
		return picked
	}
	var total uint64
	for _, t := range s.targets {
		if serves(t.Backend) {
			total += uint64(t.Weight)
		}
	}
	at, _ = bits.Mul64(rest, total) // rest is as uniform as random, and tells nothing of picked
	return cmp.Or(s.at(at, serves), picked)
}

// at returns the backend at a place in the line of the weights of those that serve, or
// the last one. "": none serves. If serves is nil, all do.
func (s *Split) at(place uint64, serves func(backend string) bool) string {
	last := ""
	for _, t := range s.targets {
		w := uint64(t.Weight)
		if w == 0 || serves != nil && !serves(t.Backend) {
			continue
		}
		if last = t.Backend; place < w {
			break
		}
		place -= w
	}
	return last
}

// PickFor returns the backend for a key, always the same one while the targets stay
// the same and the backend serves, as in Pick. It is weighted rendezvous hashing: each
// target draws a score from the key and its own name, and the best that serves wins.
// If a weight grows, keys only move to that target, and no more than its share needs.
// If a backend goes away, only its keys move, and come back with it.
// https://www.snia.org/sites/default/files/SDC15_presentations/dist_sys/Jason_Resch_New_Consistent_Hashings_Rev.pdf
func (s *Split) PickFor(key []string, serves func(backend string) bool) string {
	best, serving := "", ""
	bestScore, servingScore := math.Inf(-1), math.Inf(-1)
	for i, t := range s.targets {
		if t.Weight == 0 {
			continue
		}
		h := s.seeds[i]
		for _, part := range key {
			h = hash(h, part)
		}
		uniform := (float64(mix(h)>>11) + 0.5) / (1 << 53) // above 0, below 1
		score := -float64(t.Weight) / math.Log(uniform)
		if score > bestScore {
			best, bestScore = t.Backend, score
		}
		if score > servingScore && serves(t.Backend) {
			serving, servingScore = t.Backend, score
		}
	}
	return cmp.Or(serving, best)
}

// FNV-1a: stable across processes, so that all replicas choose the same backend.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// hash continues a hash with a text and its end.
func hash(h uint64, text string) uint64 {
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * fnvPrime
	}
	return (h ^ 0xff) * fnvPrime
}

// mix spreads the bits of a hash: FNV's upper ones depend little on the last bytes.
// The finalizer of splitmix64.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
