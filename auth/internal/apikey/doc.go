// Package apikey has API keys: hashes of them in a file, and the identities that they prove.
//
// Begin with parse.go, which reads a file. keys.go looks up the key of a call, and has the
// [Store] whose keys a reload replaces. generate.go makes new keys, and says when one was
// copied badly. The caller watches the file: the package knows no files, calls or goroutines.
//
// A line of the file has a hash, a name, and perhaps scopes and an expiry:
//
//	# deployments
//	sha256:5e88…d8 ci-deploy scopes=orders.read,orders.write expires=2027-06-30  # Alice has it
//
// The hashes have no salt and no work factor. Both are for passwords: they make each guess
// dear, because the secrets that people choose can be guessed. A key of [Generate] has 224
// random bits, so nobody guesses one at any price. One hash a call is then enough, and finds
// the line among 10,000. A hash can't tell how good its key is, so [Keys.Look] refuses short
// keys whatever the file says.
package apikey
