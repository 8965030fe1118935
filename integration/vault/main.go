// Command vault-for-tests is a real Vault core behind its real HTTP handler,
// with in-memory storage, for Pacer's integration tests. The whole server does
// not compile against a published sdk module; the core does.
//
// It holds the key-value engine, the token, AppRole, JWT and certificate
// methods, and one engine of our own, "leased", whose credentials go through
// Vault's real lease manager. It listens on the address of -listen, and with
// TLS on a free port beside it, prints one line of JSON with both addresses, the
// root token and the unseal key, and ends on SIGTERM or when its standard input
// is closed, so that it never outlives a test.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	log "github.com/hashicorp/go-hclog"
	jwtauth "github.com/hashicorp/vault-plugin-auth-jwt"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/credential/cert"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

// Ready is the line printed when the server can be used.
type Ready struct {
	Address string `json:"address"`
	// TLSAddress serves the same with a certificate of CA, and asks for a
	// client's certificate without checking it: that is the method's matter.
	TLSAddress string `json:"tls_address"`
	// CA is in PEM.
	CA        string `json:"ca"`
	RootToken string `json:"root_token"`
	UnsealKey string `json:"unseal_key"`
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to serve on")
	flag.Parse()
	if err := run(*listen); err != nil {
		fmt.Fprintln(os.Stderr, "vault-for-tests:", err)
		os.Exit(1)
	}
}

func run(listen string) error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	logger := log.New(&log.LoggerOptions{Output: os.Stderr, Level: log.Warn})
	storage, err := inmem.NewInmem(nil, logger)
	if err != nil {
		return fmt.Errorf("make storage: %w", err)
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		Logger:             logger,
		DisableMlock:       true,
		BuiltinRegistry:    builtins{},
		LogicalBackends:    map[string]logical.Factory{"kv": kv.Factory, "leased": leasedFactory},
		CredentialBackends: map[string]logical.Factory{"approle": approle.Factory, "jwt": jwtauth.Factory, "cert": cert.Factory},
		DefaultLeaseTTL:    time.Hour,
		MaxLeaseTTL:        24 * time.Hour,
		RedirectAddr:       "http://" + listener.Addr().String(),
	})
	if err != nil {
		return fmt.Errorf("make core: %w", err)
	}
	defer core.Shutdown()
	secure, ca, err := listenTLS()
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: vaulthttp.Handler.Handler(&vault.HandlerProperties{
			Core:           core,
			ListenerConfig: &configutil.Listener{Type: "tcp", Address: listener.Addr().String(), TLSDisable: true},
		}),
		ReadHeaderTimeout: 10 * time.Second,
	}
	served := make(chan error, 2) // so that the goroutines end when nobody reads
	go func() { served <- server.Serve(listener) }()
	go func() { served <- server.Serve(secure) }()

	seal := &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}
	made, err := core.Initialize(ctx, &vault.InitParams{BarrierConfig: seal, RecoveryConfig: seal})
	if err != nil {
		return fmt.Errorf("initialise: %w", err)
	}
	if _, err := vault.TestCoreUnseal(core, made.SecretShares[0]); err != nil {
		return fmt.Errorf("unseal: %w", err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(Ready{
		Address: "http://" + listener.Addr().String(), TLSAddress: "https://" + secure.Addr().String(), CA: ca,
		RootToken: made.RootToken, UnsealKey: fmt.Sprintf("%x", made.SecretShares[0]),
	}); err != nil {
		return err
	}
	parentGone := make(chan struct{})
	go func() {
		defer close(parentGone)
		// Ends when the parent does; what it writes does not matter.
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	case <-parentGone:
	}
	if err := server.Close(); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// builtins says which plugins the core may mount: those compiled in.
type builtins struct{}

var builtinNames = map[consts.PluginType][]string{
	consts.PluginTypeSecrets:    {"kv", "leased"},
	consts.PluginTypeCredential: {"approle", "jwt", "cert"},
}

func (builtins) Contains(name string, kind consts.PluginType) bool {
	for _, known := range builtinNames[kind] {
		if known == name {
			return true
		}
	}
	return false
}

func (b builtins) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	factories := map[string]logical.Factory{
		"kv": kv.Factory, "leased": leasedFactory, "approle": approle.Factory, "jwt": jwtauth.Factory, "cert": cert.Factory,
	}
	return func() (any, error) { return factories[name], nil }, b.Contains(name, kind)
}

func (builtins) Keys(kind consts.PluginType) []string { return builtinNames[kind] }

func (b builtins) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, b.Contains(name, kind)
}

func (builtins) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
