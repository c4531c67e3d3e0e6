package ratelimit

import (
	"context"
	"testing"
)

// BenchmarkQuestion makes the question alone.
func BenchmarkQuestion(b *testing.B) {
	l := fakeLimiter(b, patient(), &fakeService{})
	f := aCall()
	b.ReportAllocs()
	for b.Loop() {
		l.question(&f)
	}
}

// BenchmarkUnasked is a call without descriptors.
func BenchmarkUnasked(b *testing.B) {
	l := fakeLimiter(b, patient(), &fakeService{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Check(context.Background(), Facts{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAnswered is without a connection, which BenchmarkAsked has, and with it the
// service in the same process.
func BenchmarkAnswered(b *testing.B) {
	benchmark(b, fakeLimiter(b, patient(), &fakeService{answer: says(ok)}))
}

func BenchmarkAsked(b *testing.B) { benchmark(b, realLimiter(b, patient(), says(ok))) }

func benchmark(b *testing.B, l *Limiter) {
	b.ReportAllocs()
	for b.Loop() {
		if a, err := l.Check(context.Background(), aCall()); err != nil || a.Open != nil {
			b.Fatal(a, err)
		}
	}
}
