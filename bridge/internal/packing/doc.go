// Package packing decompresses and compresses messages and bodies with gzip. It is a
// leaf: readers of requests and the encoders of answers use it.
package packing
