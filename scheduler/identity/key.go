package identity

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/go-jose/go-jose/v4"
)

// Key is a private Ed25519 key.
type Key struct {
	private ed25519.PrivateKey
	id      string
}

// Generate makes a new key.
func Generate() (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	return newKey(private)
}

// Read reads a key from a PEM file as "openssl genpkey -algorithm ed25519"
// writes it.
func Read(path string) (*Key, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("signing key %s is not PEM with a PRIVATE KEY: make one with openssl genpkey -algorithm ed25519", path)
	}
	key, err := Parse(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", path, err)
	}
	return key, nil
}

// Parse reads what [Key.Marshal] wrote.
func Parse(der []byte) (*Key, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("is no PKCS #8 private key")
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("is no Ed25519 key: make one with openssl genpkey -algorithm ed25519")
	}
	return newKey(private)
}

func newKey(private ed25519.PrivateKey) (*Key, error) {
	public := private.Public().(ed25519.PublicKey)
	id, err := thumbprint(public)
	if err != nil {
		return nil, err
	}
	return &Key{private: private, id: id}, nil
}

// thumbprint is RFC 7638's, by SHA-256, in base64url.
func thumbprint(public ed25519.PublicKey) (string, error) {
	sum, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("hash public key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// ID names the key in tokens ("kid").
func (k *Key) ID() string { return k.id }

// Public returns the public key.
func (k *Key) Public() ed25519.PublicKey { return k.private.Public().(ed25519.PublicKey) }

// Marshal returns the key as PKCS #8, DER.
func (k *Key) Marshal() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(k.private) }

// String keeps the key out of logs.
func (k *Key) String() string { return "signing key " + k.id }

// GoString does what String does.
func (k *Key) GoString() string { return k.String() }

// KeySet is a JSON Web Key Set (RFC 7517) of public keys by their IDs.
func KeySet(keys map[string]ed25519.PublicKey) ([]byte, error) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for id, public := range keys {
		if len(public) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("public key %s has %d bytes, not %d", id, len(public), ed25519.PublicKeySize)
		}
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: public, KeyID: id, Algorithm: string(jose.EdDSA), Use: "sig"})
	}
	data, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("encode key set: %w", err)
	}
	return data, nil
}
