// Package admin answers those who run culvert: health.go a supervisor. It
// reads what it is told and changes nothing.
package admin
