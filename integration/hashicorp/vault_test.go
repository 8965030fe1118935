package hashicorp

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestVault_KeepsSecretsGivesLeasesAndSeals(t *testing.T) {
	v := StartVault(t)
	ctx := t.Context()
	write := func(path string, data map[string]any) {
		t.Helper()
		if _, err := v.Root.Logical().WriteWithContext(ctx, path, data); err != nil {
			t.Fatal(err)
		}
	}
	write("sys/mounts/kv1", map[string]any{"type": "kv"})
	write("sys/mounts/db", map[string]any{"type": "leased"})
	write("sys/auth/jwt", map[string]any{"type": "jwt"})
	write("sys/auth/approle", map[string]any{"type": "approle"})
	write("kv1/a", map[string]any{"k": "v"})
	secret, err := v.Root.Logical().ReadWithContext(ctx, "kv1/a")
	if err != nil || secret.Data["k"] != "v" {
		t.Fatalf("read back %v, %v", secret, err)
	}
	lease, err := v.Root.Logical().ReadWithContext(ctx, "db/creds/web")
	if err != nil || lease.LeaseID == "" || !lease.Renewable {
		t.Fatalf("leased credentials %v, %v", lease, err)
	}
	if err := v.Root.Sys().RevokeWithContext(ctx, lease.LeaseID); err != nil {
		t.Fatal(err)
	}
	if err := v.Seal(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Root.Logical().ReadWithContext(ctx, "kv1/a"); err == nil {
		t.Error("a sealed Vault answers")
	}
	if err := v.Unseal(ctx); err != nil {
		t.Fatal(err)
	}
	if secret, err := v.Root.Logical().ReadWithContext(ctx, "kv1/a"); err != nil || secret.Data["k"] != "v" {
		t.Errorf("after unsealing %v, %v", secret, err)
	}
}
