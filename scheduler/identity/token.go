package identity

import (
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// issuer of all tokens.
const issuer = "pacer"

// DefaultExpiry of a token: beyond the 15 minutes that a launch may take.
const DefaultExpiry = 30 * time.Minute

// skew of clocks between scheduler and Vault that is tolerated.
const skew = time.Minute

// Subject is whom a token names.
type Subject struct {
	// Framework is the framework's name, FrameworkID what Mesos gave it.
	Framework, FrameworkID string
	// App is the app's path, with or without leading slash.
	App   string
	Task  string
	Agent string
}

// Signer makes tokens. It may be used from several goroutines.
type Signer struct {
	signer jose.Signer
	expiry time.Duration
}

// NewSigner makes tokens with key that are valid for expiry.
func NewSigner(key *Key, expiry time.Duration) (*Signer, error) {
	options := (&jose.SignerOptions{}).WithType("JWT").WithHeader(jose.HeaderKey("kid"), key.ID())
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key.private}, options)
	if err != nil {
		return nil, fmt.Errorf("use signing key: %w", err)
	}
	return &Signer{signer: signer, expiry: expiry}, nil
}

type claims struct {
	jwt.Claims
	Framework   string `json:"framework"`
	FrameworkID string `json:"framework_id"`
	App         string `json:"app"`
	Task        string `json:"task"`
	Agent       string `json:"agent"`
}

// Sign returns the token of a task as a compact JWS. It is a credential.
func (s *Signer) Sign(subject Subject, now time.Time) (string, error) {
	token, err := jwt.Signed(s.signer).Claims(claims{
		Claims: jwt.Claims{
			Issuer:    issuer,
			ID:        subject.Task,
			IssuedAt:  jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now.Add(-skew)),
			Expiry:    jwt.NewNumericDate(now.Add(s.expiry)),
		},
		Framework:   subject.Framework,
		FrameworkID: subject.FrameworkID,
		App:         strings.TrimPrefix(subject.App, "/"),
		Task:        subject.Task,
		Agent:       subject.Agent,
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign identity of task %s: %w", subject.Task, err)
	}
	return token, nil
}
