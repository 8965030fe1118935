package main

import (
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

// hostname is for people: what cannot be found out is left out.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}
