package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"pacer/scheduler/state"
	"pacer/scheduler/state/bolt"
	"pacer/scheduler/state/zookeeper"
)

// stateFlags say where the state is kept.
type stateFlags struct {
	State         string        `default:"bolt:/var/lib/pacer/state.db" placeholder:"URL" help:"Where the state is kept: bolt:/path/to/file.db for one scheduler, zk://host:port,host:port/pacer for several, one of which leads. Default: ${default}."`
	StateAuthFile string        `placeholder:"FILE" help:"JSON file with credentials for ZooKeeper; the nodes are then for nobody else. Default: none."`
	StateTLSCA    string        `name:"state-tls-ca" env:"PACER_STATE_TLS_CA" placeholder:"FILE" help:"PEM file with the authorities of ZooKeeper's certificates; it makes connections use TLS. Default: none, no TLS."`
	StateTLSCert  string        `name:"state-tls-cert" env:"PACER_STATE_TLS_CERT" placeholder:"FILE" help:"PEM file with our own certificate for ZooKeeper; needs --state-tls-ca and --state-tls-key. Default: none."`
	StateTLSKey   string        `name:"state-tls-key" env:"PACER_STATE_TLS_KEY" placeholder:"FILE" help:"PEM file with the key of --state-tls-cert. Default: none."`
	StateSession  time.Duration `default:"8s" help:"ZooKeeper session timeout: how long a scheduler that dies without a word keeps the lead. Default: ${default}."`
}

const boltPrefix = "bolt:"

// shared tells whether other schedulers may have the same state.
func (f *stateFlags) shared() bool { return !strings.HasPrefix(f.State, boltPrefix) }

func (f *stateFlags) checkState() error {
	var problems []error
	if path, local := strings.CutPrefix(f.State, boltPrefix); local && path == "" || !local && !strings.HasPrefix(f.State, "zk://") {
		problems = append(problems, fmt.Errorf("--state=%s: expected bolt:/path/to/file.db or zk://host:port,host:port/pacer", f.State))
	} else if !local {
		if _, err := zookeeper.ParseURL(f.State); err != nil {
			problems = append(problems, fmt.Errorf("--state: %w", err))
		}
	} else if f.StateAuthFile != "" {
		problems = append(problems, fmt.Errorf("--state-auth-file=%s: expected --state=zk://...: a state file has no credentials", f.StateAuthFile))
	}
	if (f.StateTLSCert == "") != (f.StateTLSKey == "") || f.StateTLSCert != "" && f.StateTLSCA == "" {
		problems = append(problems, fmt.Errorf("--state-tls-cert=%s: expected together with --state-tls-key and --state-tls-ca, or none of them", f.StateTLSCert))
	}
	if f.StateSession < time.Second || f.StateSession > 5*time.Minute {
		problems = append(problems, fmt.Errorf("--state-session=%s: expected 1s to 5m", f.StateSession))
	}
	return errors.Join(problems...)
}

// openState opens the state; name is written into it for people. The client is
// nil for a state of one scheduler, and closed with the store.
func (f *stateFlags) openState(name string, log zerolog.Logger) (state.Store, *zookeeper.Client, error) {
	if path, local := strings.CutPrefix(f.State, boltPrefix); local {
		store, err := bolt.Open(path)
		if err != nil {
			return nil, nil, fmt.Errorf("--state: %w", err)
		}
		return store, nil, nil
	}
	config, err := zookeeper.ParseURL(f.State)
	if err != nil {
		return nil, nil, fmt.Errorf("--state: %w", err)
	}
	config.SessionTimeout = f.StateSession
	if config.TLS, err = f.stateTLS(); err != nil {
		return nil, nil, err
	}
	if f.StateAuthFile != "" {
		if config.Access, err = zookeeper.ReadAuthFile(f.StateAuthFile); err != nil {
			return nil, nil, fmt.Errorf("--state-auth-file: %w", err)
		}
	} else {
		log.Warn().Msg("state in ZooKeeper without --state-auth-file: whoever reaches ZooKeeper can read the key that signs identities, and change everything")
	}
	client, err := zookeeper.Connect(config, log)
	if err != nil {
		return nil, nil, fmt.Errorf("--state: %w", err)
	}
	return zookeeper.NewStore(client, name), client, nil
}

// stateTLS is nil for connections without TLS.
func (f *stateFlags) stateTLS() (*tls.Config, error) {
	if f.StateTLSCA == "" {
		return nil, nil
	}
	authorities, err := os.ReadFile(f.StateTLSCA)
	if err != nil {
		return nil, fmt.Errorf("--state-tls-ca: %w", err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	if !config.RootCAs.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("--state-tls-ca=%s: holds no certificate in PEM", f.StateTLSCA)
	}
	if f.StateTLSCert != "" {
		own, err := tls.LoadX509KeyPair(f.StateTLSCert, f.StateTLSKey)
		if err != nil {
			return nil, fmt.Errorf("--state-tls-cert: %w", err)
		}
		config.Certificates = []tls.Certificate{own}
	}
	return config, nil
}

// hostname is for people: what cannot be found out is left out.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}
