// Command service is the app that the demo runs: a small HTTP server that says
// which version and instance it is, proves that it was given its secret
// without showing it, and finishes its requests when it is told to stop.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Reply is what every instance answers on "/".
type Reply struct {
	Version  string `json:"version"`
	Instance string `json:"instance"`
	// Proof is the SHA-256 of the secret, in hex.
	Proof string `json:"proof"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(1)
	}
}

func run() error {
	secret := os.Getenv("DB_PASSWORD")
	if secret == "" {
		return fmt.Errorf("DB_PASSWORD is not set: the app's label secret.env.DB_PASSWORD has to name it")
	}
	reply, err := json.Marshal(Reply{
		Version:  os.Getenv("SERVICE_VERSION"),
		Instance: os.Getenv("MESOS_TASK_ID"),
		Proof:    fmt.Sprintf("%x", sha256.Sum256([]byte(secret))),
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		// A client that is gone needs no answer.
		_, _ = w.Write(reply)
	})
	server := &http.Server{Addr: net.JoinHostPort("", os.Getenv("PORT")), Handler: mux, ReadTimeout: 10 * time.Second}

	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	served := make(chan error, 1) // so that the goroutine ends when nobody reads
	go func() { served <- server.ListenAndServe() }()
	fmt.Println("serving on port", os.Getenv("PORT"))
	select {
	case err := <-served:
		return err
	case <-stop.Done():
	}
	fmt.Println("told to stop, finishing requests")
	finish, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(finish)
}
