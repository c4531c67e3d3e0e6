// Package packing has gzip: messages and bodies that come compressed, and messages that
// go out so. It is a leaf: readers of requests and the encoders of answers use it.
package packing
