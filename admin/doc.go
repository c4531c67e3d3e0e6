// Package admin answers the people and programs that run culvert: health.go answers
// a supervisor. It reads the state that it is given and changes nothing.
package admin
