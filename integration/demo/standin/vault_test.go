package standin

import (
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/rs/zerolog"

	"pacer/secrets"
	"pacer/secrets/vault"
)

func TestVault_GivesAnAppItsOwnSecretsOnly(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: "k", Algorithm: "EdDSA", Use: "sig"}}})
	}))
	defer keys.Close()
	server, err := StartVault(keys.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	server.Put("shop/web/db", map[string]string{"password": "p"})
	server.Put("other/db", map[string]string{"password": "q"})

	config := vault.DefaultConfig()
	config.Address = server.URL()
	client, err := vault.New(config, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	keeper := secrets.NewKeeper(client, zerolog.Nop())
	sign := func(key ed25519.PrivateKey, expiry time.Time) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		token, err := jwt.Signed(signer).Claims(map[string]any{"app": "shop/web", "exp": expiry.Unix()}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	_, forged, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	later, earlier := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	for _, tc := range []struct{ name, token, path, want string }{
		{"own", sign(private, later), "secret/shop/web/db", ""},
		{"other app's", sign(private, later), "secret/other/db", "denied"},
		{"expired token", sign(private, earlier), "secret/shop/web/db", "log in"},
		{"forged token", sign(forged, later), "secret/shop/web/db", "log in"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			declared, err := secrets.ParseLabels(map[string]string{"secret.env.P": tc.path + "#password"})
			if err != nil {
				t.Fatal(err)
			}
			grant, err := keeper.Acquire(t.Context(), secrets.Identity{App: "shop/web", Token: secrets.NewSecret([]byte(tc.token))}, declared, nil)
			switch {
			case tc.want == "" && (err != nil || string(grant.Bundle.Variables[0].Secret.Reveal()) != "p"):
				t.Errorf("got %v, %v", grant, err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
	// Logins are given back beside the launches.
	if err := keeper.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if logins, reads, tokens := server.Counts(); logins != 3 || reads != 1 || tokens != 0 {
		t.Errorf("%d logins, %d reads, %d tokens left; want 3 (a denied read is tried with a fresh login), 1, 0", logins, reads, tokens)
	}
}
