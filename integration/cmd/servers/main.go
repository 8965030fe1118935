// Command servers builds the servers that Debian does not package, Vault and
// Consul, into the user's cache, where the tests find them. It says what it
// does: the first build takes minutes.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"pacer/integration/hashicorp"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for _, s := range []hashicorp.Server{hashicorp.VaultServer, hashicorp.ConsulServer} {
		path, err := hashicorp.Build(ctx, s, os.Stdout)
		switch {
		case errors.Is(err, hashicorp.ErrMissing):
			// The tests that need it skip and say the same.
			fmt.Println(err)
		case err != nil:
			fmt.Fprintln(os.Stderr, "servers:", err)
			os.Exit(1)
		default:
			fmt.Println(path)
		}
	}
}
