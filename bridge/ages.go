package bridge

import "time"

// An AgeCount is the number of calls under way that are older than the class before it in
// Snapshot.Ages allows.
type AgeCount struct {
	Below time.Duration // their ages, by a clock of whole seconds; 0: any
	Calls int           // requests to the web server included
}

// ages are the classes, the youngest first.
type ages []AgeCount

func newAges() ages {
	return ages{{Below: time.Second}, {Below: time.Minute}, {Below: time.Hour}, {Below: 24 * time.Hour}, {}}
}

// note counts a call of this age.
func (a ages) note(age time.Duration) {
	for i := range a {
		if age < a[i].Below || a[i].Below == 0 {
			a[i].Calls++
			return
		}
	}
}
