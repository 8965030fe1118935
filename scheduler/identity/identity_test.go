package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"
)

func TestSign_IsVerifiedByTheKeySet(t *testing.T) {
	first, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	second, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	data, err := KeySet(map[string]ed25519.PublicKey{first.ID(): first.Public(), second.ID(): second.Public()})
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(data, &set); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), `"d"`) {
		t.Fatal("the key set holds a private key")
	}
	now := time.Unix(1_800_000_000, 0)
	for _, key := range []*Key{first, second} {
		signer, err := NewSigner(key, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		token, err := signer.Sign(Subject{Framework: "pacer", FrameworkID: "f-1", App: "/shop/cart", Task: "shop_cart.1", Agent: "S1"}, now)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.EdDSA})
		if err != nil {
			t.Fatal(err)
		}
		found := set.Key(parsed.Headers[0].KeyID)
		if len(found) != 1 {
			t.Fatalf("%d keys with id %s", len(found), parsed.Headers[0].KeyID)
		}
		var got map[string]any
		if err := parsed.Claims(found[0].Key, &got); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{
			"iss": "pacer", "jti": "shop_cart.1", "framework": "pacer", "framework_id": "f-1", "app": "shop/cart",
			"task": "shop_cart.1", "agent": "S1", "iat": 1.8e9, "nbf": 1.8e9 - 60, "exp": 1.8e9 + 3600,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("claims (-want +got):\n%s", diff)
		}
	}
}

func TestKey_RoundTrip(t *testing.T) {
	key, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	der, err := key.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if again.ID() != key.ID() || !again.Public().Equal(key.Public()) {
		t.Error("another key came back")
	}
}

func TestRead_SaysWhatIsWrong(t *testing.T) {
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ content, want string }{
		"no PEM":      {"hello", "genpkey"},
		"another PEM": {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), "genpkey"},
		"no key":      {string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})), "PKCS #8"},
		"ECDSA":       {string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "Ed25519"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key.pem")
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Read(path); err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("err = %v, want %q and the path", err, test.want)
			}
		})
	}
}

func TestKey_StaysOutOfText(t *testing.T) {
	key, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	want := "signing key " + key.ID()
	for _, format := range []string{"%v", "%s", "%+v", "%#v"} {
		if got := fmt.Sprintf(format, key); got != want {
			t.Errorf("%s shows %d bytes, not the id", format, len(got))
		}
	}
}
