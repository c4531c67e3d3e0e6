// Package pebble has a CA that speaks ACME: Let's Encrypt's own small server,
// github.com/letsencrypt/pebble, as the module tools pins it, and the DNS in
// which it looks names up. It trusts nothing that isn't proven to it, and
// certificates live as long as a test wants.
//
// pebble.go runs it, behind a relay that can be cut; dns.go answers its
// questions.
package pebble
