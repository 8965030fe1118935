package hashicorp

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// Vault is a running server with in-memory storage. Its engines are kv, token,
// approle, jwt, cert and "leased" (see integration/vault).
type Vault struct {
	// Address is its URL, TLSAddress one with TLS, where the server shows a
	// certificate signed by CA (PEM) and accepts any client's.
	Address, TLSAddress, CA string
	// Root is a client with all rights.
	Root *api.Client

	unsealKey string
	cmd       *exec.Cmd
	ended     chan struct{}
}

// StartVault starts a server of the test's own. It ends with the test, which
// is skipped where the server cannot be built.
func StartVault(t testing.TB) *Vault {
	t.Helper()
	v, err := RunVault(t.Context(), t.TempDir())
	skipIfMissing(t, err)
	t.Cleanup(v.Close)
	return v
}

// RunVault starts a server whose log is in dir. Close it.
func RunVault(ctx context.Context, dir string) (*Vault, error) {
	binary, err := Build(ctx, VaultServer, os.Stderr)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "vault.log"))
	if err != nil {
		return nil, fmt.Errorf("start Vault: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(binary)
	cmd.Stderr = log
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	// In this process's group, where a supervisor of tasks in the same process
	// leaves it alone. It ends when this pipe is closed, by Close or with this process.
	if _, err := cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start Vault: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start Vault: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start Vault: %w", err)
	}
	v := &Vault{cmd: cmd, ended: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { kill(cmd) })
	defer stop()
	startup := time.AfterFunc(time.Minute, func() { kill(cmd) })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	startup.Stop()
	go func() {
		defer close(v.ended)
		// How it ended is in its log.
		_ = cmd.Wait()
	}()
	if err != nil {
		v.Close()
		output, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("start Vault: it ended before it was ready: %s", tail(output, 2000))
	}
	var ready struct {
		Address    string `json:"address"`
		TLSAddress string `json:"tls_address"`
		CA         string `json:"ca"`
		RootToken  string `json:"root_token"`
		UnsealKey  string `json:"unseal_key"`
	}
	if err := json.Unmarshal(line, &ready); err != nil {
		v.Close()
		return nil, fmt.Errorf("start Vault: its first line: %w", err)
	}
	v.Address, v.TLSAddress, v.CA, v.unsealKey = ready.Address, ready.TLSAddress, ready.CA, ready.UnsealKey
	config := api.DefaultConfig()
	config.Address = ready.Address
	config.Timeout = 30 * time.Second
	if v.Root, err = api.NewClient(config); err != nil {
		v.Close()
		return nil, fmt.Errorf("start Vault: %w", err)
	}
	v.Root.SetToken(ready.RootToken)
	return v, nil
}

func kill(cmd *exec.Cmd) {
	// It may have ended already.
	_ = cmd.Process.Kill()
}

// Close ends the server and waits for its end.
func (v *Vault) Close() {
	kill(v.cmd)
	<-v.ended
	if v.Root != nil {
		v.Root.CloneConfig().HttpClient.CloseIdleConnections()
	}
}

// Pause stops the server without ending it: connections stay, nothing answers.
func (v *Vault) Pause() error { return v.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume ends Pause.
func (v *Vault) Resume() error { return v.cmd.Process.Signal(syscall.SIGCONT) }

// Seal seals the server: it answers 503 until Unseal.
func (v *Vault) Seal(ctx context.Context) error { return v.Root.Sys().SealWithContext(ctx) }

// Unseal unseals the server.
func (v *Vault) Unseal(ctx context.Context) error {
	status, err := v.Root.Sys().UnsealWithContext(ctx, v.unsealKey)
	if err != nil {
		return err
	}
	if status.Sealed {
		return fmt.Errorf("still sealed")
	}
	return nil
}
