package agent

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// claims are what an executor's token says.
type claims struct {
	Framework string `json:"fid"`
	Executor  string `json:"eid"`
	Container string `json:"cid"`
}

// token signs claims as Mesos' JWT secret generator does: HS256, no expiry.
func (a *Agent) token(c claims) string {
	payload, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("marshal claims: %v", err)) // three strings
	}
	signed := encodeSegment([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encodeSegment(payload)
	return signed + "." + encodeSegment(a.sign(signed))
}

func (a *Agent) sign(text string) []byte {
	mac := hmac.New(sha256.New, a.cfg.JWTSecret)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

func encodeSegment(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// verify returns a token's claims if this agent's secret signed it.
func (a *Agent) verify(token string) (claims, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims{}, fmt.Errorf("token has %d components, not 3", len(parts))
	}
	var header struct{ Alg, Typ string }
	if err := decodeSegment(parts[0], &header); err != nil {
		return claims{}, fmt.Errorf("header: %w", err)
	}
	if header.Alg != "HS256" {
		return claims{}, fmt.Errorf("unsupported token algorithm %q", header.Alg)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !hmac.Equal(signature, a.sign(parts[0]+"."+parts[1])) {
		return claims{}, errors.New("token signature does not match")
	}
	var c claims
	if err := decodeSegment(parts[1], &c); err != nil {
		return claims{}, fmt.Errorf("payload: %w", err)
	}
	return c, nil
}

func decodeSegment(segment string, target any) error {
	text, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, target)
}
