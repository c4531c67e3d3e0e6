package provider

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"

	jose "github.com/go-jose/go-jose/v4"
)

// A Key is one that the provider signs with, or publishes.
type Key struct {
	id        string
	algorithm jose.SignatureAlgorithm
	signer    crypto.Signer
}

// RSA returns a new key for RS256.
func RSA(id string) Key {
	return Key{id, jose.RS256, must(rsa.GenerateKey(rand.Reader, 2048))}
}

// EC returns a new key for ES256.
func EC(id string) Key {
	return Key{id, jose.ES256, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
}

// Ed returns a new key for EdDSA.
func Ed(id string) Key {
	_, signer, err := ed25519.GenerateKey(rand.Reader)
	return Key{id, jose.EdDSA, must(signer, err)}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// signing is a Key as the provider signs with it.
type signing struct{ k Key }

func (s signing) ID() string                                  { return s.k.id }
func (s signing) SignatureAlgorithm() jose.SignatureAlgorithm { return s.k.algorithm }
func (s signing) Key() any                                    { return s.k.signer }

// public is a Key as the provider publishes it.
type public struct{ k Key }

func (p public) ID() string                         { return p.k.id }
func (p public) Algorithm() jose.SignatureAlgorithm { return p.k.algorithm }
func (p public) Use() string                        { return "sig" }
func (p public) Key() any                           { return p.k.signer.Public() }
