package memory

import "testing"

// BenchmarkMessage is what the account costs a message: a reply, that counts while it
// is sent, and a request that finds room. Each goroutine is a call of one address.
func BenchmarkMessage(b *testing.B) {
	a := New(256<<20, 1<<30)
	of := new(Address)
	b.Run("reply", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			e := a.NewEntry()
			e.Own(of)
			for pb.Next() {
				e.Add(Small, 100)
				e.Sub(Small, 100)
			}
		})
	})
	b.Run("request", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			e := a.NewEntry()
			e.Own(of)
			for pb.Next() {
				if err := e.reserve(b.Context(), Small, 100); err != nil {
					b.Fatal(err)
				}
				e.Sub(Small, 100)
			}
		})
	})
}
